//! What is pinned: every option of a TGN's spec, and every way to train one.

/// Settings that are trained, and the ways that must all leave the same.
pub struct Case {
    pub name: &'static str,
    /// Laid over the spec that all have.
    pub sets: Vec<&'static str>,
    pub ways: Vec<Way>,
    /// Whether its scores are pinned as well.
    pub served: bool,
}

/// A way to train that does not show in the result.
pub struct Way {
    pub name: &'static str,
    pub sets: Vec<&'static str>,
    /// Interrupted after an epoch, then resumed.
    pub stopped: bool,
}

impl Case {
    fn new(name: &'static str, sets: &[&'static str]) -> Case {
        Case { name, sets: sets.to_vec(), ways: vec![one_thread(), two_threads()], served: false }
    }

    fn served(self) -> Case {
        Case { served: true, ..self }
    }

    fn also(mut self, way: Way) -> Case {
        self.ways.push(way);
        self
    }

    /// The folder of a run.
    pub fn folder(&self, way: &Way) -> String {
        let tape = if self.sets.contains(&BURN) { ", on the tape" } else { "" };
        format!("runs/{}, {}{tape}", self.name, way.name)
    }
}

fn one_thread() -> Way {
    Way { name: "one thread", sets: vec![], stopped: false }
}

fn two_threads() -> Way {
    Way { name: "two threads", sets: vec!["threads=2"], stopped: false }
}

fn prefetched() -> Way {
    Way { name: "batches made ready ahead", sets: vec!["threads=2", "parallel.prefetch=2"], stopped: false }
}

fn stopped() -> Way {
    Way { name: "a stop", sets: vec![], stopped: true }
}

const CONV: &str = "model.attention=transformer-conv";
const LEAKY: &str = "model.attention_scores=leaky-relu";
const TWO: &str = "model.layers=2";
const IDENTITY: &str = "model.embedding=identity";
const RNN: &str = "model.updater=rnn";
const UNIFORM: &str = "model.sampler=uniform";
const WITHOUT_MAIL: &str = "model.update_without_mail=true";
const AT_READ: &str = "model.mail_memory=at-read";
const PAIRS: &str = "model.pair_features=true";
const ADD: &str = "model.static.how=add";
const CONCAT: &str = "model.static.how=concat";
const TUNED: [&str; 2] = ["model.static.train=true", "model.static.nodes=23"];
const NODES: &str = "data.node_features=true";
const AS_PYG: [&str; 5] = [CONV, AT_READ, WITHOUT_MAIL, "model.time_delta=since-update", "model.history=batch"];
/// Much at once: two hops, draws, pairs, static memory.
const RICH: [&str; 8] = [CONV, TWO, UNIFORM, RNN, PAIRS, CONCAT, TUNED[0], NODES];
const MEAN: &str = "model.mail=mean";
const BURN: &str = "executor=burn";
const MLP: &str = "model.message=mlp";
const SUM: &str = "model.embedding=sum";

/// Every option that trains on slices.
pub fn variants() -> Vec<Case> {
    let cases = [
        Case::new("paper", &[]).also(prefetched()),
        Case::new("paper, 2 layers", &[TWO]),
        Case::new("conv", &[CONV]),
        Case::new("conv, 2 layers", &[CONV, TWO]),
        Case::new("leaky", &[LEAKY]),
        Case::new("leaky, conv, 2 layers", &[LEAKY, CONV, TWO]),
        Case::new("time", &["model.embedding=time", "model.time_scale=10.0"]),
        Case::new("time, own scale", &["model.embedding=time"]),
        Case::new("identity", &[IDENTITY]),
        Case::new("rnn", &[RNN]),
        Case::new("at read", &[AT_READ]),
        Case::new("update without mail", &[WITHOUT_MAIL]),
        Case::new("uniform", &[UNIFORM]),
        Case::new("uniform, 2 layers", &[UNIFORM, TWO]).also(prefetched()),
        Case::new("window", &["model.sampler={ window = 30 }"]),
        Case::new("ordered", &["model.history=ordered"]),
        Case::new("batch", &["model.history=batch"]),
        Case::new("since update", &["model.time_delta=since-update"]),
        Case::new("uniform times", &["model.time_init=uniform"]),
        Case::new("pair features", &[PAIRS]),
        Case::new("pair features, identity", &[PAIRS, IDENTITY]),
        Case::new("static, add", &[ADD]),
        Case::new("static, concat, 2 layers", &[CONCAT, TWO]),
        Case::new("static, tuned, add, conv", &[ADD, CONV, TUNED[0], TUNED[1]]),
        Case::new("static, tuned, concat", &[CONCAT, TUNED[0], TUNED[1]]),
        Case::new("static, tuned, identity", &[ADD, IDENTITY, TUNED[0], TUNED[1]]),
        Case::new("node features", &[NODES]),
        Case::new("node features, static, add, 2 layers", &[NODES, ADD, TWO]),
        Case::new("no features", &["data.edge_features=none"]),
        Case::new("no dropout", &["model.dropout=0.0"]),
        Case::new("one head, 3 negatives", &["model.heads=1", "train.negatives=3"]),
        Case::new("message mlp", &[MLP]),
        Case::new("mean mail", &[MEAN]),
        Case::new("mean mail, message mlp", &[MEAN, MLP]),
        Case::new("rnn, mean mail", &[RNN, MEAN]),
        Case::new("update without mail, mean", &[WITHOUT_MAIL, MEAN]),
        Case::new("sum", &[SUM]),
        Case::new("sum, 2 layers", &[SUM, TWO]),
        Case::new("static, concat, sum", &[SUM, CONCAT, TUNED[0], TUNED[1]]),
        Case::new("as PyG", &AS_PYG).also(prefetched()),
        Case::new("rich", &RICH).also(prefetched()),
    ];
    // Whole vectors, and several tasks to a loop.
    let wide = Case::new("wide", &["model.memory=100", "model.time=100", "model.width=100", "train.batch=150"]);
    cases.into_iter().chain([wide]).map(Case::served).collect()
}

/// Several lanes, and memories that are behind: another training each.
pub fn in_parallel() -> Vec<Case> {
    let lanes = |name, sets: &[&'static str]| Case::new(name, &[&["train.epochs=4"], sets].concat());
    let rich = |name, set| lanes(name, &[&[set], &RICH[..]].concat());
    vec![
        lanes("paper, 2x1x1", &["parallel.minibatch=2"]).also(prefetched()),
        lanes("paper, 1x2x1", &["parallel.epoch=2"]).also(prefetched()),
        lanes("paper, 1x1x2", &["parallel.memory=2"]).also(prefetched()),
        lanes("paper, 2x2x2", &["parallel.minibatch=2", "parallel.epoch=2", "parallel.memory=2"]),
        lanes("paper, stale", &["parallel.prefetch=2", "parallel.staleness=2"]),
        rich("rich, 2x1x1", "parallel.minibatch=2"),
        rich("rich, 1x2x1", "parallel.epoch=2"),
        rich("rich, 1x1x2", "parallel.memory=2"),
    ]
}

/// Runs long enough to be stopped inside.
pub fn long() -> Vec<Case> {
    const LONG: [&str; 2] = ["data.path=synthetic:events=2500,users=20,items=15,features=2", "train.epochs=12"];
    let long = |name, sets: &[&'static str]| Case {
        ways: vec![one_thread(), stopped()],
        ..Case::new(name, &[&LONG[..], sets].concat())
    };
    vec![long("long", &[]), long("long, 1x1x2", &["parallel.memory=2"]), long("long, as PyG", &AS_PYG)]
}

/// What trains through the tape, which is asked for.
pub fn on_tape() -> Vec<Case> {
    vec![
        Case::new("message mlp", &[BURN, MLP]),
        Case::new("mean mail", &[BURN, MEAN]),
        Case::new("mean mail, message mlp", &[BURN, MEAN, MLP]),
        Case::new("rnn, mean mail", &[BURN, RNN, MEAN]),
        Case::new("update without mail, mean", &[BURN, WITHOUT_MAIL, MEAN]),
        Case::new("sum", &[BURN, SUM]),
        Case::new("sum, 2 layers", &[BURN, SUM, TWO]),
        Case::new("static, concat, sum", &[BURN, SUM, CONCAT, TUNED[0], TUNED[1]]),
        Case::new("message mlp, 2x1x1", &[BURN, MLP, "parallel.minibatch=2"]),
        Case::new("mean mail, 1x2x1", &[BURN, MEAN, "parallel.epoch=2"]),
        Case::new("sum, 1x1x2", &[BURN, SUM, "parallel.memory=2"]),
    ]
}

/// Products of numbers rounded to bfloat16.
pub fn bf16() -> Vec<Case> {
    const BF16: &str = "model.precision=bf16";
    vec![
        Case::new("bf16", &[BF16]),
        Case::new("bf16, conv, 2 layers", &[BF16, CONV, TWO]),
        Case::new("bf16, rich", &[&[BF16], &RICH[..]].concat()),
    ]
}
