//! A model of your own: a memory that fades while nothing happens to a node. The guide is `docs/src/extend/model.md`.
//!
//! `z_u(t) = exp(-w² d) * s_u`, `d = (t - t_u) / unit`: each column of the memory `s` fades at a rate `w` that it learns.

use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use tempograph_models::{
    Builder, Context, CpuTape, DatasetStats, Gradients, MemoryUpdateSettings, ModelKind, Operation, Outputs,
    PaddedRows, Param, Registry, Stage, TableGradients, Tables, Tensor, TensorContext, TimeInit, Updater,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Fading {
    memory: usize,
    unit: Option<f64>,
}

impl Default for Fading {
    fn default() -> Fading {
        Fading { memory: 100, unit: None }
    }
}

impl ModelKind for Fading {
    const KIND: &'static str = "fading";
    const ABOUT: &'static str = "memory that fades while nothing happens";
    const PAPER: &'static str = "decay of GRU-D, Che et al., 2018, arXiv:1606.01865";
    const TEMPLATE: &'static str = include_str!("fading.toml");

    fn check(&self) -> Result<(), String> {
        let fits = self.unit.is_none_or(|unit| unit > 0.0);
        fits.then_some(()).ok_or_else(|| format!("model.unit = {:?}; it must be positive", self.unit))
    }
    fn complete(&mut self, facts: &DatasetStats) {
        self.unit.get_or_insert(facts.time_scale);
    }
    fn build(&self, g: &mut Builder) -> Outputs {
        let time = g.time_encoding("memory.time", self.memory, TimeInit::LogSpaced);
        let memory = g.memory_update("memory", time, MemoryUpdateSettings::last(self.memory, Updater::Gru));
        let roots = g.centres(memory);
        let rates = (1..=self.memory).map(|i| i as f32 / self.memory as f32).collect();
        let rate = g.parameters.values("embedding.rate", &[self.memory], rates);
        let fade = Fade { rate, unit: self.unit.unwrap_or(1.0) as f32 };
        g.require_idle_times();
        let embedding = g.push("embedding", fade, &[roots], g.shape(roots));
        let decoder = g.link_decoder(self.memory, self.memory, false);
        Outputs { memory: Some(memory), embedding, decoder, mail_payload: None }
    }
}

/// Lets the rows of the roots fade. It keeps nothing from call to call, so it is its own stage.
#[derive(Clone, Debug)]
struct Fade {
    rate: Param,
    unit: f32,
}

impl Operation for Fade {
    fn describe(&self) -> String {
        format!("fading, {} ticks count as one", self.unit)
    }
    fn stage(&self) -> Box<dyn Stage> {
        Box::new(self.clone())
    }
    fn on_tape(&self, cx: &TensorContext<CpuTape>, reads: &[Tensor<CpuTape, 2>]) -> Tensor<CpuTape, 2> {
        let idle: Vec<f32> = cx.view.hops[0].idle.iter().map(|ticks| ticks / self.unit).collect();
        let (rows, rate) = (idle.len(), cx.vector(self.rate).unsqueeze());
        reads[0].clone() * (cx.from_rows(idle, [rows, 1]) * rate.clone() * rate).neg().exp()
    }
}

impl Stage for Fade {
    fn forward(&mut self, cx: &Context, reads: Tables, out: &mut PaddedRows) {
        let (s, rate) = (reads.table(0), cx.weights.values(self.rate));
        out.zeros(s.rows(), s.columns());
        for (row, ticks) in cx.view.hops[0].idle.iter().enumerate() {
            let (idle, z) = (ticks / self.unit, out.row_mut(row).iter_mut());
            z.zip(s.row(row)).zip(rate).for_each(|((z, s), w)| *z = s * (-idle * w * w).exp());
        }
    }
    fn backward(&mut self, cx: &Context, x: Tables, dz: &mut PaddedRows, dx: &mut TableGradients, dw: &mut Gradients) {
        let (s, rate) = (x.table(0), cx.weights.values(self.rate));
        let (ds, drate) = (dx.table(0, s), dw.param_mut(self.rate));
        drate.fill(0.0);
        for (row, ticks) in cx.view.hops[0].idle.iter().enumerate() {
            let (idle, s, dz, ds) = (ticks / self.unit, s.row(row), dz.row(row), ds.row_mut(row));
            for (i, w) in rate.iter().enumerate() {
                ds[i] = dz[i] * (-idle * w * w).exp();
                drate[i] -= 2.0 * idle * w * s[i] * ds[i];
            }
        }
    }
}

fn main() -> ExitCode {
    tempograph_experiments::run(Registry::default().with::<Fading>())
}
