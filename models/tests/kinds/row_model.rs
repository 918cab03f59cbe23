//! A model that gives numbers for each root, which no kind does yet.

use serde::{Deserialize, Serialize};
use tempograph_framework::{Delta, Lookup, Sampler};
use tempograph_models::{
    AttentionForm, AttentionScores, AttentionSettings, Builder, EmptyNeighbourhood, MemoryUpdateSettings, ModelKind,
    NeighbourSettings, Outputs, TimeInit, Updater,
};

/// A small TGN with a row head.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RowModel {
    pub outputs: usize,
}

impl ModelKind for RowModel {
    const KIND: &'static str = "rows";
    const ABOUT: &'static str = "numbers for each root";
    const PAPER: &'static str = "none";
    const TEMPLATE: &'static str = "";

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn build(&self, g: &mut Builder) -> Outputs {
        let (sampler, lookup, delta) = (Sampler::Recent, Lookup::Exact, Delta::SinceEvent);
        g.neighbours(NeighbourSettings { neighbours: 4, sampler, lookup, delta });
        let time = g.time_encoding("time", 6, TimeInit::LogSpaced);
        let memory = g.memory_update("memory", time, MemoryUpdateSettings::last(8, Updater::Gru));
        let (form, scores, alone) = (AttentionForm::Paper, AttentionScores::Scaled, EmptyNeighbourhood::Nothing);
        let layer = AttentionSettings { form, scores, width: 6, heads: 2, dropout: 0.1, alone };
        let embedding = g.attention("embedding.layers.0", memory, (0, 0), time, layer);
        let decoder = g.row_head(6, 7, self.outputs);
        Outputs { memory: Some(memory), embedding, decoder, mail_payload: None }
    }
}
