//! One pass of the model as it is served: with the kernels that trained it, on slices of host memory.

use tempograph_framework::{ForwardOutput, MailView, Queries, SliceModel, Update, View};
use tempograph_models::{SliceProgram, SliceWork};

/// One pass at a time: what is asked, what is shown of the past, and what comes of it, in memory that is kept for the next.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    pub queries: Queries,
    pub view: View,
    pub work: SliceWork,
}

impl Pass {
    /// Answers what the pass asks of what it is shown.
    pub fn forward(&mut self, model: &SliceProgram) {
        model.forward(&self.queries, &self.view, None, &mut self.work);
    }

    /// The update alone: memories with the waiting mail read.
    pub fn advance(&mut self, model: &SliceProgram) {
        model.advance(&self.queries, &self.view, &mut self.work);
    }

    fn answer(&self) -> &ForwardOutput {
        self.work.as_ref()
    }

    /// Logits of the asked pairs.
    pub fn scores(&self) -> &[f32] {
        &self.answer().scores
    }

    /// The embedding of the only node asked about.
    pub fn embedding(&self) -> &[f32] {
        debug_assert_eq!(self.queries.len(), 1, "several roots may share a row");
        &self.answer().embeddings
    }

    /// Memories that mail was read into for it.
    pub fn mails_read(&self) -> usize {
        match &self.view.mail {
            MailView::Last(plan) => plan.rows.len(),
            MailView::Many(mails) => mails.rows.len(),
        }
    }

    /// The embedding of a root, `[O]`, and what the decoder [maps](SliceProgram::map_ends) it to as a source and as a destination.
    pub fn parts_of(&self, root: usize, width: usize) -> [&[f32]; 3] {
        let row = self.view.roots[root] as usize;
        let [src, dst] = self.work.ends().map(|ends| ends.row(row));
        [&self.answer().embeddings[row * width..][..width], src, dst]
    }

    /// What observing writes.
    pub fn update(&self) -> &Update {
        &self.answer().update
    }
}
