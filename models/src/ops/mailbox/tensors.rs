//! Attention to mailboxes on tensors.

use std::sync::Arc;

use tempograph_framework::MailView;
use tempograph_kernels::tensor::Tensor;
use tempograph_kernels::{AttentionPlan, Rows, TemporalOps, gather_rows, product, rectify, temporal_attention};

use crate::operation::TensorContext;
use crate::ops::layers::attention::{join_heads, split_heads};
use crate::ops::mailbox::{FeaturesOrZeros, MailboxAttention, MailboxSlots};
use crate::ops::tables::dropout::drop_on_tensors;
use crate::ops::tables::norm::norm_on_tensors;

impl MailboxAttention {
    /// Rows of the roots, `[C, D]`.
    pub(crate) fn on_tensors<B: TemporalOps>(&self, cx: &TensorContext<'_, B>) -> Tensor<B, 2> {
        let MailView::Many(mails) = &cx.view.mail else {
            unreachable!("a history keeps what the program needs: slots")
        };
        let (width, heads) = (self.settings.width, self.settings.heads);
        let memory = cx.from_rows(mails.memory.clone(), [mails.unique, width]);
        let own = gather_rows(memory, cx.view.hops[0].centres.clone());
        let mut said = mails.other.clone();
        said.resize(said.len() + self.said, 0.0);
        let table = cx.from_rows(said, [mails.event.len() + 1, self.said]);
        let mut seen = MailboxSlots::default();
        seen.fill(self, cx.queries, cx.view);
        let features = cx.view.edge_features.as_ref().filter(|_| self.edge > 0);
        let plan = AttentionPlan {
            neighbours: seen.slots,
            features: features.map(|rows| Arc::new(FeaturesOrZeros::new(rows)) as Arc<dyn Rows>),
            activation: Self::activation(),
            dropout: self.dropped_weights(cx.dropout),
        };
        let [key, value] = [&self.key, &self.value].map(|map| {
            let weight = cx.augmented(map);
            let columns = weight.dims()[1];
            weight.reshape([heads, width / heads, columns])
        });
        let query = product(split_heads(cx.linear(&self.query, own.clone()), heads), key);
        let [freq, phase] = [self.time.freq, self.time.phase].map(|param| cx.vector(param));
        let seen = temporal_attention(Arc::new(plan), table, query, freq, phase);
        let attended = join_heads(product(seen, value.swap_dims(1, 2)));
        let normed = norm_on_tensors(cx, self.norm, attended + own);
        rectify(drop_on_tensors(cx, cx.linear(&self.last, normed), self.dropped(cx.dropout)))
    }
}
