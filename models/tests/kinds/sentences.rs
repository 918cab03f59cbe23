//! An invalid model gives an error sentence that names the key.

use tempograph_framework::{Combine, MailContent, MailRule};
use tempograph_models::{
    AttentionForm, Builder, DatasetStats, FeatureWidths, MailDelivery, MailPayload, MailRows, MemoryUpdateSettings,
    ModelKind, ModelSpec, Outputs, Registry, TgnSpec, TimeInit, Updater, WalkSpec,
};

/// An invalid model, in one of several ways.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Wrong {
    how: usize,
}

impl ModelKind for Wrong {
    const KIND: &'static str = "wrong";
    const ABOUT: &'static str = "";
    const PAPER: &'static str = "";
    const TEMPLATE: &'static str = "";

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn build(&self, g: &mut Builder) -> Outputs {
        let time = g.time_encoding("time", 4, TimeInit::LogSpaced);
        let mut mail = MemoryUpdateSettings::last(8, Updater::Rnn);
        mail.rule = match self.how {
            0 => MailRule { combine: Combine::Slots(3), ..mail.rule },
            1 => MailRule { says: MailContent::Given(5), ..mail.rule },
            2 | 4 => MailRule { says: MailContent::Given(8), ..mail.rule },
            _ => mail.rule,
        };
        let memory = g.memory_update("memory", time, mail);
        let embedding = g.centres(memory);
        let decoder = g.link_decoder(8, 8, false);
        g.walks((self.how == 6).then_some(&WalkSpec::default()));
        let says = match self.how {
            3 => Some(MailPayload { value: embedding, rows: MailRows::Other, features: false }),
            4 => Some(MailPayload { value: embedding, rows: MailRows::Both, features: false }),
            5 => Some(MailPayload { value: memory, rows: MailRows::Other, features: false }),
            _ => None,
        };
        Outputs { memory: Some(memory), embedding, decoder, mail_payload: says }
    }
}

#[test]
fn the_builder_says_what_does_not_fit() {
    let expected = [
        "a memory update reads the last mail or the mean of all, not mail in slots; model.mail is \"last\" or \"mean\"",
        "mail says 5 columns; a memory update reads as many as memories have, model.memory = 8",
        "mail says what the model gives, and the model gives nothing",
        "the model gives mail 8 columns to say, and mail says memories",
        "the model gives mail 16 columns to say, and mail has 8",
        "mail says rows of the roots, not of nodes",
        "the program has walks, and its decoder was recorded before them (Builder::walks)",
    ];
    for (how, expected) in expected.into_iter().enumerate() {
        let found = ModelSpec::from(Wrong { how }).program(FeatureWidths::default()).unwrap_err();
        assert_eq!(found, expected);
    }
}

fn refused(table: &str) -> String {
    match Registry::default().read(table.parse().unwrap()) {
        Ok(spec) => spec.check().unwrap_err(),
        Err(sentence) => sentence,
    }
}

#[test]
fn settings_that_cannot_be_are_refused_by_their_keys() {
    for (table, expected) in [
        ("kind = 'tgat'\nlayers = 3", "model.layers = 3; it is 1 or 2"),
        ("kind = 'tgat'\nheads = 3", "model.heads = 3 does not divide 200, the columns of a row (100) and of a time"),
        ("kind = 'tgat'\nneighbours = 0", "model.neighbours is 0; it must be at least 1"),
        ("kind = 'jodie'\ndropout = 1.0", "model.dropout = 1; it lies in 0 <= dropout < 1"),
        (
            "kind = 'jodie'\nsource_idle = { mean = 1.0, deviation = 0.0 }",
            "model.source_idle.deviation = 0; it must be positive, and the mean a number",
        ),
        ("kind = 'dyrep'\nmemory = 0", "model.memory is 0; it must be at least 1"),
        ("kind = 'apan'\nslots = 0", "model.slots is 0; it must be at least 1"),
        ("kind = 'apan'\nheads = 3", "model.heads = 3 does not divide model.memory = 100"),
        (
            "kind = 'graphmixer'\nneighbours = 1",
            "model.neighbours * model.token_expansion is below 1; a token mixer needs at least 1 token and 1 column",
        ),
        ("kind = 'graphmixer'\nwindow = 0", "model.window is 0; it must be at least 1"),
        ("kind = 'graphmixer'\nwindow_ticks = 0", "model.window_ticks = 0; it must be at least 1"),
        (
            "kind = 'static'\n[static]\nwidth = 5",
            "model.static.how = \"off\"; a model of static memory alone reads it, \"add\" or \"concat\"",
        ),
        (
            "deliver = { to = 'neighbours', count = 0 }",
            "model.deliver.count is 0; it must be at least 1, or model.deliver.to \"ends\"",
        ),
        ("deliver = { to = 'neighbours', count = 2, decay = 0.0 }", "model.deliver.decay = 0; it must be positive"),
        ("common_neighbours = true\nneighbours = 0", "model.neighbours is 0; common neighbours need at least 1"),
        ("kind = 'tncn'\ndecoder = 0", "model.decoder is 0; it must be at least 1"),
        ("kind = 'tncn'\nheads = 3", "model.heads = 3 does not divide model.width = 100"),
        ("kind = 'tgat'\nwalks = { layers = 0 }", "model.walks.layers is 0; it must be at least 1"),
        ("kind = 'apan'\nwalks = { decay = -1.0 }", "model.walks.decay = -1; it must be 0 or positive"),
    ] {
        assert_eq!(refused(table), expected);
    }
}

#[test]
fn templates_are_the_defaults_and_specs_come_back_as_they_went() {
    let facts = DatasetStats::of(&crate::stream(50, 0), 0..40, crate::NODES);
    for kind in Registry::default().kinds() {
        let mut template: toml::Table = kind.template.parse().unwrap();
        let Some(toml::Value::Table(template)) = template.remove("model") else { panic!("{}: no [model]", kind.name) };
        assert_eq!(template.get("kind").and_then(|kind| kind.as_str()), Some(kind.name));
        let read = Registry::default().read(template).unwrap();
        assert_eq!(read, kind.settings(), "{}", kind.name);
        read.check().unwrap();
        let completed = read.completed(&facts);
        let text = toml::to_string(&completed).unwrap();
        assert_eq!(Registry::default().read(text.parse().unwrap()).unwrap(), completed, "{}: {text}", kind.name);
    }
    let deliver = MailDelivery::Neighbours { count: 3, decay: Some(2.0) };
    let spec = ModelSpec::from(TgnSpec { deliver, attention: AttentionForm::Residual, ..TgnSpec::default() });
    assert_eq!(Registry::default().read(toml::to_string(&spec).unwrap().parse().unwrap()).unwrap(), spec);
}

#[test]
fn walks_forget_at_the_rate_of_the_data_and_a_device_refuses_them_by_name() {
    let facts = DatasetStats { time_scale: 50.0, ..DatasetStats::of(&crate::stream(50, 0), 0..40, crate::NODES) };
    for kind in ["tgn", "jodie", "dyrep", "tgat", "apan"] {
        let spec =
            Registry::default().read(format!("kind = '{kind}'\nwalks = {{ layers = 2 }}").parse().unwrap()).unwrap();
        let spec = spec.completed(&facts);
        let rule = spec.program(FeatureWidths::default()).unwrap().needs().walks.unwrap();
        assert_eq!((rule.layers, rule.width, rule.decay), (2, 100, 0.01 / 50.0), "{kind}");
        assert_eq!(Registry::default().read(toml::to_string(&spec).unwrap().parse().unwrap()).unwrap(), spec, "{kind}");
        let refused = spec.program(FeatureWidths::default()).unwrap().check_device_support();
        assert!(refused.is_err(), "{kind}");
        if kind == "tgn" {
            assert_eq!(refused.unwrap_err(), "kernels on a device know no rows of temporal walks (model.walks)");
        }
    }
}
