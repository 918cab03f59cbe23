//! Attention to mailboxes on slices.

use tempograph_framework::MailView;
use tempograph_kernels::Rows;
use tempograph_kernels::cpu::{
    Activation, AttentionPlanRef, InputGradient, LayerNorm, Linear, PaddedRows, ProjectedAttention,
    ProjectionGradients, ProjectionWeights, add, head_stride, relu_backward,
};

use crate::operation::{Context, Gradients, MIN_PARALLEL_ROWS, Stage, TableGradients, Tables};
use crate::ops::layers::attention::{Parts, Projections, attended_table};
use crate::ops::mailbox::{FeaturesOrZeros, MailboxAttention, MailboxSlots};
use crate::ops::tables::dropout::drop_from;

#[derive(Debug)]
pub(super) struct MailboxStage {
    op: MailboxAttention,
    seen: MailboxSlots,
    features: Option<FeaturesOrZeros>,
    /// `[mails + 1, W]` mail payloads, zeros last.
    said: PaddedRows,
    said_gradient: Vec<f32>,
    /// `[C, D]` memories.
    own: PaddedRows,
    query: PaddedRows,
    query_gradient: PaddedRows,
    projections: Projections,
    attention: ProjectedAttention,
    attended: PaddedRows,
    attended_gradient: PaddedRows,
    norm: LayerNorm,
    summed: PaddedRows,
    normed: PaddedRows,
    normed_gradient: PaddedRows,
    maps: [Linear; 2],
    /// `[C, D]` the output rows.
    given: PaddedRows,
}

impl MailboxAttention {
    fn parts(&self) -> [Parts; 2] {
        [&self.key, &self.value].map(|map| [Some(map.weight), map.bias, None])
    }

    fn attending<'a>(
        &self,
        cx: &Context<'_>,
        seen: &'a MailboxSlots,
        features: Option<&'a FeaturesOrZeros>,
    ) -> AttentionPlanRef<'a> {
        AttentionPlanRef {
            neighbours: &seen.slots,
            features: features.map(|rows| rows as &dyn Rows),
            activation: Self::activation(),
            dropout: self.dropped_weights(cx.dropout),
        }
    }
}

impl MailboxStage {
    pub fn new(op: MailboxAttention) -> MailboxStage {
        MailboxStage {
            op,
            seen: MailboxSlots::default(),
            features: None,
            said: PaddedRows::default(),
            said_gradient: Vec::new(),
            own: PaddedRows::default(),
            query: PaddedRows::default(),
            query_gradient: PaddedRows::default(),
            projections: Projections::default(),
            attention: ProjectedAttention::default(),
            attended: PaddedRows::default(),
            attended_gradient: PaddedRows::default(),
            norm: LayerNorm::default(),
            summed: PaddedRows::default(),
            normed: PaddedRows::default(),
            normed_gradient: PaddedRows::default(),
            maps: Default::default(),
            given: PaddedRows::default(),
        }
    }

    /// Gathers memories and mails.
    fn load(&mut self, cx: &Context<'_>) {
        let MailboxStage { op, seen, features, said, own, .. } = self;
        let MailView::Many(mails) = &cx.view.mail else {
            unreachable!("a history keeps what the program needs: slots")
        };
        seen.fill(op, cx.queries, cx.view);
        match (cx.view.edge_features.as_ref().filter(|_| op.edge > 0), &mut *features) {
            (Some(rows), Some(known)) => known.show(rows),
            (rows, features) => *features = rows.map(FeaturesOrZeros::new),
        }
        said.resize_dense(mails.event.len() + 1, op.said);
        let (all, none) = said.values.split_at_mut(mails.other.len());
        all.copy_from_slice(&mails.other);
        none.fill(0.0);
        own.gather(&mails.memory, op.settings.width, op.settings.width, &cx.view.hops[0].centres);
    }
}

impl Stage for MailboxStage {
    fn forward(&mut self, cx: &Context<'_>, _: Tables<'_>, out: &mut PaddedRows) {
        self.load(cx);
        let MailboxStage { op, seen, features, said, own, query, projections, attention, attended, .. } = self;
        let (width, heads, weights) = (op.settings.width, op.settings.heads, cx.weights);
        let (rows, stride) = (own.rows(), head_stride(width, heads));
        projections.concat(weights, [width, op.key.inputs + 1], op.parts(), rows >= MIN_PARALLEL_ROWS);
        query.resize_with_stride(rows, width, stride);
        attended.resize_with_stride(rows, width, stride);
        self.maps[0].forward_into(own, weights.linear(&op.query), Activation::None, query);
        let (version, precision) = (weights.parameters.version(), weights.precision);
        let Projections { key, value, .. } = &*projections;
        let projected = ProjectionWeights { key, value, heads, version, precision };
        let (attending, table) = (op.attending(cx, seen, features.as_ref()), attended_table(said, &op.time, weights));
        attention.forward(&attending, projected, table, &query.values, &mut attended.values);
        let (summed, normed) = (&mut self.summed, &mut self.normed);
        summed.zeros(rows, width);
        for row in 0..rows {
            let sum = summed.row_mut(row);
            // a node without mail gets no bias of the values
            if seen.slots.count[row] > 0 {
                sum.copy_from_slice(attended.row(row));
            }
            add(sum, own.row(row));
        }
        self.norm.forward(summed, op.norm.map(|param| weights.values(param)), normed);
        self.maps[1].forward(normed, weights.linear(&op.last), Activation::Relu, &mut self.given);
        drop_from(&mut self.given, op.dropped(cx.dropout));
        out.resize_like(&self.given);
        out.values.copy_from_slice(&self.given.values);
    }

    fn backward(
        &mut self,
        cx: &Context<'_>,
        _: Tables<'_>,
        grad: &mut PaddedRows,
        _: &mut TableGradients<'_>,
        gradients: &mut Gradients<'_>,
    ) {
        let MailboxStage { op, seen, features, said, own, query, projections, attention, attended, .. } = self;
        let weights = cx.weights;
        op.parts().into_iter().for_each(|parts| gradients.zero(parts.into_iter().flatten()));
        drop_from(grad, op.dropped(cx.dropout));
        relu_backward(&mut grad.values, &self.given.values);
        let into = InputGradient::Replace(&mut self.normed_gradient);
        let weight = weights.values(op.last.weight);
        self.maps[1].backward(&self.normed, weight, grad, gradients.map(&op.last), into);
        let (weight, of_norm) = (weights.values(op.norm[0]), gradients.params_mut(op.norm));
        self.norm.backward(&self.normed_gradient, weight, of_norm, &mut self.summed);
        let of_attended = &mut self.attended_gradient;
        of_attended.resize_like(attended);
        of_attended.values.fill(0.0);
        for (row, _) in seen.slots.count.iter().enumerate().filter(|(_, count)| **count > 0) {
            of_attended.row_mut(row).copy_from_slice(self.summed.row(row));
        }
        let Projections { key, value, key_gradient, value_gradient, .. } = &mut *projections;
        key_gradient.resize(key.len(), 0.0);
        value_gradient.resize(value.len(), 0.0);
        self.query_gradient.resize_like(query);
        self.said_gradient.resize(said.values.len(), 0.0);
        let into = ProjectionGradients {
            key: key_gradient,
            value: value_gradient,
            query: &mut self.query_gradient.values,
            hidden: &mut self.said_gradient,
            time: gradients.params_mut([op.time.freq, op.time.phase]),
        };
        let (attending, table) = (op.attending(cx, seen, features.as_ref()), attended_table(said, &op.time, weights));
        attention.backward(&attending, table, &query.values, &of_attended.values, into);
        projections.split_gradients(gradients, op.settings.width, op.parts());
        let of_query = gradients.map(&op.query);
        let weight = weights.values(op.query.weight);
        self.maps[0].backward(own, weight, &self.query_gradient, of_query, InputGradient::Unwanted);
    }

    fn attention(&self) -> &[f32] {
        self.attention.weights()
    }
}
