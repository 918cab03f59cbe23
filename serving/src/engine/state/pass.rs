//! One pass of the served model, with the kernels of training, on slices of host memory.

use tempograph_framework::{ForwardOutput, MailView, Queries, SliceModel, Update, View};
use tempograph_models::{SliceProgram, SliceWork};

/// The buffers of one pass, reused by the next: queries, view and results.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    pub queries: Queries,
    pub view: View,
    pub work: SliceWork,
}

impl Pass {
    /// Computes the answers to the pass's queries from its view.
    pub fn forward(&mut self, model: &SliceProgram) {
        model.forward(&self.queries, &self.view, None, &mut self.work);
    }

    /// Computes only the update: memories after the waiting mail is read.
    pub fn advance(&mut self, model: &SliceProgram) {
        model.advance(&self.queries, &self.view, &mut self.work);
    }

    fn answer(&self) -> &ForwardOutput {
        self.work.as_ref()
    }

    /// Logits of the queried pairs.
    pub fn scores(&self) -> &[f32] {
        &self.answer().scores
    }

    /// The embedding of the only queried node.
    pub fn embedding(&self) -> &[f32] {
        debug_assert_eq!(self.queries.len(), 1, "several roots may share a row");
        &self.answer().embeddings
    }

    /// Number of memories that mail was read into in this pass.
    pub fn mails_read(&self) -> usize {
        match &self.view.mail {
            MailView::Last(plan) => plan.rows.len(),
            MailView::Many(mails) => mails.rows.len(),
        }
    }

    /// The embedding of a root, `[O]`, and the rows to which the decoder [maps](SliceProgram::map_ends) it as a source
    /// and as a destination.
    pub fn parts_of(&self, root: usize, width: usize) -> [&[f32]; 3] {
        let row = self.view.roots[root] as usize;
        let [src, dst] = self.work.ends().map(|ends| ends.row(row));
        [&self.answer().embeddings[row * width..][..width], src, dst]
    }

    /// The rows that observing writes.
    pub fn update(&self) -> &Update {
        &self.answer().update
    }
}
