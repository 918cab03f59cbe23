//! The embedding module on slices.

use std::ops::Range;

use tempograph_framework::{Hop, View};
use tempograph_kernels::Dropout;
use tempograph_kernels::cpu::{
    Activation, Attending, InputGradient, Linear, PaddedRows, ProjectedAttention, ProjectionGradients,
    ProjectionWeights, Table, Version, add, cos_row, head_stride, join_if, mask, sin_row,
};

use super::places::{LayerPlaces, Map, split, weight_and_bias};
use super::{SHARED, SliceTgn, SliceWork};

/// Working memory of one layer.
#[derive(Debug, Default)]
pub(super) struct LayerWork {
    /// `[C, W]` or, for a paper layer, `[C, W + T]` with phi(0) behind.
    centres: PaddedRows,
    centres_gradient: PaddedRows,
    /// `[C, O]`
    query: PaddedRows,
    query_gradient: PaddedRows,
    /// `[O, X]` key and value weights with their biases, and their gradients.
    key: Vec<f32>,
    value: Vec<f32>,
    /// Version of the weights they are.
    joined: Option<Version>,
    key_gradient: Vec<f32>,
    value_gradient: Vec<f32>,
    attention: ProjectedAttention,
    /// `[C, O]`
    attended: PaddedRows,
    attended_gradient: PaddedRows,
    maps: [Linear; 4],
    /// Of a conv layer the skip connection; of a paper layer `[attention | centre]`, `[C, O + W]`.
    beside: PaddedRows,
    beside_gradient: PaddedRows,
    /// Of a paper layer, `[C, O]`: `relu(fc1 ..)`, and what goes into the merge.
    rectified: PaddedRows,
    rectified_gradient: PaddedRows,
    projected: PaddedRows,
    /// `[C, O]`
    out: PaddedRows,
    out_gradient: PaddedRows,
    /// `[T]`
    sine: Vec<f32>,
}

impl LayerWork {
    /// `[C, H, K]`
    pub(super) fn attention_weights(&self) -> &[f32] {
        self.attention.weights()
    }
}

/// A table of rows: the hidden rows of the view's nodes, or what the layer below gave.
#[derive(Clone, Copy)]
struct Below<'a> {
    values: &'a [f32],
    columns: usize,
    stride: usize,
}

impl<'a> Below<'a> {
    fn rows(rows: &'a PaddedRows) -> Below<'a> {
        Below { values: &rows.values, columns: rows.columns(), stride: rows.stride() }
    }
}

impl SliceTgn {
    /// Embeds the top table's rows.
    pub(super) fn embed(&self, view: &View, work: &mut SliceWork) {
        let dropout = work.dropout;
        work.layers.resize_with(self.places.layers.len(), LayerWork::default);
        let (depth, width) = (self.places.layers.len(), self.spec.hidden_width());
        let hidden = work.hidden.rows(&work.answer.update.memory);
        let hidden = Below { values: hidden, columns: width, stride: width };
        if depth == 0 {
            match view.hops.first() {
                Some(hop) => work.embeddings.gather(hidden.values, width, width, &hop.centres),
                None => {
                    work.embeddings.resize(view.nodes.len(), width);
                    let rows = hidden.values.chunks_exact(width).enumerate();
                    rows.for_each(|(row, numbers)| work.embeddings.row_mut(row).copy_from_slice(numbers));
                }
            }
            return;
        }
        for layer in 0..depth {
            let (done, rest) = work.layers.split_at_mut(layer);
            let below = done.last().map_or(hidden, |below| Below::rows(&below.out));
            let hop = &view.hops[depth - 1 - layer];
            let dropout = self.dropout(layer, dropout);
            self.forward_layer(layer, &mut rest[0], below, hop, view, dropout);
        }
        std::mem::swap(&mut work.embeddings, &mut work.layers[depth - 1].out);
    }

    fn dropout(&self, layer: usize, seed: Option<u64>) -> Option<Dropout> {
        let seed = seed.filter(|_| self.spec.dropout > 0.0)?;
        Some(Dropout { rate: self.spec.dropout, seed: seed.wrapping_add(layer as u64) })
    }

    fn forward_layer(
        &self,
        layer: usize,
        work: &mut LayerWork,
        below: Below<'_>,
        hop: &Hop,
        view: &View,
        dropout: Option<Dropout>,
    ) {
        let attending = self.attending(hop, view, dropout);
        match &self.places.layers[layer] {
            LayerPlaces::Conv { query, key, value, edge, skip } => {
                work.centres.gather(below.values, below.stride, below.columns, &hop.centres);
                self.join_projections(work, [key, value], |map| {
                    [Some(map.weight.clone()), Some(edge.weight.clone()), map.bias.clone()]
                });
                self.attend(work, query, attending, below);
                work.maps[1].forward(&work.centres, self.weights().of(skip), Activation::None, &mut work.beside);
                let LayerWork { attended, beside, out, .. } = work;
                std::mem::swap(attended, out);
                (0..out.rows()).for_each(|row| add(out.row_mut(row), beside.row(row)));
            }
            LayerPlaces::Paper { query, key, value, out, fc1, fc2 } => {
                self.gather_with_now(&mut work.centres, below, hop);
                self.join_projections(work, [key, value], |map| [Some(map.weight.clone()), map.bias.clone(), None]);
                self.attend(work, query, attending, below);
                work.maps[1].forward(&work.attended, self.weights().of(out), Activation::None, &mut work.projected);
                merge(&mut work.beside, &work.projected, &work.centres, below.columns, hop);
                work.maps[2].forward(&work.beside, self.weights().of(fc1), Activation::Relu, &mut work.rectified);
                work.maps[3].forward(&work.rectified, self.weights().of(fc2), Activation::None, &mut work.out);
            }
            LayerPlaces::Time { drift } => {
                work.centres.gather(below.values, below.stride, below.columns, &hop.centres);
                work.out.resize(work.centres.rows(), below.columns);
                for row in 0..work.centres.rows() {
                    let idle = hop.idle[row] / self.spec.time_scale.unwrap_or(1.0) as f32;
                    let numbers = work.centres.row(row).iter().zip(self.values(drift));
                    work.out
                        .row_mut(row)
                        .iter_mut()
                        .zip(numbers)
                        .for_each(|(out, (&s, &w))| *out = s * (idle * w + 1.0));
                }
            }
        }
    }

    fn attending<'a>(&self, hop: &'a Hop, view: &'a View, dropout: Option<Dropout>) -> Attending<'a> {
        let features = view.edge_features.as_deref();
        Attending { neighbours: &hop.neighbours, features, activation: self.spec.score_activation(), dropout }
    }

    fn table<'a>(&'a self, below: Below<'a>) -> Table<'a> {
        Table { hidden: below.values, width: below.columns, stride: below.stride, time: self.time() }
    }

    /// Queries of the centres, and what they attend to.
    fn attend(&self, work: &mut LayerWork, query: &Map, attending: Attending<'_>, below: Below<'_>) {
        let (width, heads) = (self.spec.width, self.spec.heads);
        let (rows, stride) = (work.centres.rows(), head_stride(width, heads));
        work.query.resize_apart(rows, width, stride);
        work.attended.resize_apart(rows, width, stride);
        work.maps[0].forward_apart(&work.centres, self.weights().of(query), Activation::None, &mut work.query);
        let (version, precision) = (self.parameters.version(), self.spec.precision.into());
        let weights = ProjectionWeights { key: &work.key, value: &work.value, heads, version, precision };
        work.attention.forward(&attending, weights, self.table(below), &work.query.values, &mut work.attended.values);
    }

    /// Puts together key and value weights, unless it has those of this version.
    fn join_projections(
        &self,
        work: &mut LayerWork,
        [key, value]: [&Map; 2],
        parts: impl Fn(&Map) -> [Option<Range<usize>>; 3],
    ) {
        let version = self.parameters.version();
        if work.joined != Some(version) {
            let [key, value] = [key, value].map(parts);
            join_if(
                work.centres.rows() >= SHARED,
                || self.join(&mut work.key, &key),
                || self.join(&mut work.value, &value),
            );
            work.joined = Some(version);
        }
    }

    /// Puts matrices of `O` rows side by side, `[O, X]`.
    fn join(&self, out: &mut Vec<f32>, parts: &[Option<Range<usize>>; 3]) {
        let outputs = self.spec.width;
        out.clear();
        for row in 0..outputs {
            for part in parts.iter().flatten() {
                let columns = part.len() / outputs;
                out.extend_from_slice(&self.values(part)[row * columns..][..columns]);
            }
        }
    }

    /// Centres with phi(0) behind each.
    fn gather_with_now(&self, centres: &mut PaddedRows, below: Below<'_>, hop: &Hop) {
        let time = self.time();
        let width = time.freq.len();
        centres.zeros(hop.centres.len(), below.columns + width);
        for (row, &centre) in hop.centres.iter().enumerate() {
            let (own, now) = centres.row_mut(row).split_at_mut(below.columns);
            own.copy_from_slice(&below.values[centre as usize * below.stride..][..below.columns]);
            cos_row(now, 0.0, time.freq, time.phase);
        }
    }
}

/// `[attention | centre]`, with an attention of zero where there are no neighbours.
fn merge(out: &mut PaddedRows, attended: &PaddedRows, centres: &PaddedRows, width: usize, hop: &Hop) {
    out.zeros(centres.rows(), attended.columns() + width);
    for row in 0..centres.rows() {
        let (left, right) = out.row_mut(row).split_at_mut(attended.columns());
        if hop.neighbours.count[row] > 0 {
            left.copy_from_slice(attended.row(row));
        }
        right.copy_from_slice(&centres.row(row)[..width]);
    }
}

impl SliceTgn {
    /// Gradients of the layers' weights and of the hidden rows, from that of the embeddings.
    pub(super) fn embed_backward(&self, view: &View, gradients: &mut [f32], work: &mut SliceWork) {
        let dropout = work.dropout;
        let (depth, width) = (self.places.layers.len(), self.spec.hidden_width());
        work.hidden_gradient.resize(view.nodes.len() * width, 0.0);
        if depth == 0 {
            work.hidden_gradient.fill(0.0);
            let centres = view.hops.first().map(|hop| &hop.centres);
            for row in 0..work.embeddings_gradient.rows() {
                let node = centres.map_or(row, |centres| centres[row] as usize);
                add(&mut work.hidden_gradient[node * width..][..width], work.embeddings_gradient.row(row));
            }
            return;
        }
        std::mem::swap(&mut work.embeddings_gradient, &mut work.layers[depth - 1].out_gradient);
        let hidden = work.hidden.rows(&work.answer.update.memory);
        for layer in (0..depth).rev() {
            let (done, rest) = work.layers.split_at_mut(layer);
            let hop = &view.hops[depth - 1 - layer];
            let attending = self.attending(hop, view, self.dropout(layer, dropout));
            match done.last_mut() {
                None => {
                    let below = Below { values: hidden, columns: width, stride: width };
                    self.backward_layer(
                        layer,
                        &mut rest[0],
                        below,
                        hop,
                        attending,
                        gradients,
                        &mut work.hidden_gradient,
                    );
                }
                Some(LayerWork { out, out_gradient, .. }) => {
                    out_gradient.resize_apart(out.rows(), out.columns(), out.stride());
                    self.backward_layer(
                        layer,
                        &mut rest[0],
                        Below::rows(out),
                        hop,
                        attending,
                        gradients,
                        &mut out_gradient.values,
                    );
                }
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "a layer, what it read and where its gradients go")]
    fn backward_layer(
        &self,
        layer: usize,
        work: &mut LayerWork,
        below: Below<'_>,
        hop: &Hop,
        attending: Attending<'_>,
        gradients: &mut [f32],
        table: &mut [f32],
    ) {
        match &self.places.layers[layer] {
            LayerPlaces::Conv { query, key, value, edge, skip } => {
                std::mem::swap(&mut work.attended_gradient, &mut work.out_gradient);
                self.attend_backward(work, query, attending, below, gradients, table);
                let LayerWork { maps, centres, attended_gradient, centres_gradient, .. } = work;
                let parts = weight_and_bias(gradients, skip);
                maps[1].backward(
                    centres,
                    self.values(&skip.weight),
                    attended_gradient,
                    parts,
                    InputGradient::Add(centres_gradient),
                );
                let parts = |map: &Map| [Some(map.weight.clone()), Some(edge.weight.clone()), map.bias.clone()];
                self.part(&work.key_gradient, &parts(key), gradients);
                self.part(&work.value_gradient, &parts(value), gradients);
                scatter(table, below, hop, &work.centres_gradient);
            }
            LayerPlaces::Paper { query, key, value, out, fc1, fc2 } => {
                self.merge_backward(work, [out, fc1, fc2], hop, gradients);
                self.attend_backward(work, query, attending, below, gradients, table);
                let parts = |map: &Map| [Some(map.weight.clone()), map.bias.clone(), None];
                self.part(&work.key_gradient, &parts(key), gradients);
                self.part(&work.value_gradient, &parts(value), gradients);
                self.now_backward(work, below.columns, gradients);
                for row in 0..work.centres.rows() {
                    let beside = &work.beside_gradient.row(row)[self.spec.width..];
                    add(&mut work.centres_gradient.row_mut(row)[..below.columns], beside);
                }
                scatter(table, below, hop, &work.centres_gradient);
            }
            LayerPlaces::Time { drift } => {
                table.fill(0.0);
                work.centres_gradient.resize(work.centres.rows(), below.columns);
                for row in 0..work.centres.rows() {
                    let idle = hop.idle[row] / self.spec.time_scale.unwrap_or(1.0) as f32;
                    let (grad, centre) = (work.out_gradient.row(row), work.centres.row(row));
                    for (i, (&grad, &w)) in grad.iter().zip(self.values(drift)).enumerate() {
                        gradients[drift.start + i] += idle * centre[i] * grad;
                        work.centres_gradient.row_mut(row)[i] = grad * (idle * w + 1.0);
                    }
                }
                scatter(table, below, hop, &work.centres_gradient);
            }
        }
    }

    /// From the gradient of what was attended to those of query weights, keys, values, time, table and centres.
    fn attend_backward(
        &self,
        work: &mut LayerWork,
        query: &Map,
        attending: Attending<'_>,
        below: Below<'_>,
        gradients: &mut [f32],
        table: &mut [f32],
    ) {
        let LayerWork {
            key,
            value,
            key_gradient,
            value_gradient,
            attention,
            query: queries,
            query_gradient,
            attended_gradient,
            ..
        } = work;
        key_gradient.resize(key.len(), 0.0);
        value_gradient.resize(value.len(), 0.0);
        query_gradient.resize_apart(queries.rows(), queries.columns(), queries.stride());
        let [freq, phase] = &self.places.time;
        let into = ProjectionGradients {
            key: key_gradient,
            value: value_gradient,
            query: &mut query_gradient.values,
            hidden: table,
            time: split(gradients, [freq, phase]),
        };
        attention.backward(&attending, self.table(below), &queries.values, &attended_gradient.values, into);
        let LayerWork { maps, centres, query_gradient, centres_gradient, .. } = work;
        let parts = weight_and_bias(gradients, query);
        maps[0].backward(
            centres,
            self.values(&query.weight),
            query_gradient,
            parts,
            InputGradient::Replace(centres_gradient),
        );
    }

    /// From the gradient of a paper layer's output to that of what was attended.
    fn merge_backward(&self, work: &mut LayerWork, [out, fc1, fc2]: [&Map; 3], hop: &Hop, gradients: &mut [f32]) {
        let LayerWork { maps, rectified, rectified_gradient, out_gradient, beside, beside_gradient, .. } = work;
        let parts = weight_and_bias(gradients, fc2);
        maps[3].backward(
            rectified,
            self.values(&fc2.weight),
            out_gradient,
            parts,
            InputGradient::Replace(rectified_gradient),
        );
        mask(&mut rectified_gradient.values, &rectified.values);
        let parts = weight_and_bias(gradients, fc1);
        maps[2].backward(
            beside,
            self.values(&fc1.weight),
            rectified_gradient,
            parts,
            InputGradient::Replace(beside_gradient),
        );
        let LayerWork { maps, projected, beside_gradient, attended, attended_gradient, .. } = work;
        for row in 0..projected.rows() {
            let of_attention = &beside_gradient.row(row)[..self.spec.width];
            match hop.neighbours.count[row] {
                0 => projected.row_mut(row).fill(0.0),
                _ => projected.row_mut(row).copy_from_slice(of_attention),
            }
        }
        attended_gradient.resize_apart(attended.rows(), attended.columns(), attended.stride());
        attended_gradient.values.fill(0.0);
        let parts = weight_and_bias(gradients, out);
        maps[1].backward(attended, self.values(&out.weight), projected, parts, InputGradient::Add(attended_gradient));
    }

    /// phi(0) = cos(phase): its share of the phases' gradient.
    fn now_backward(&self, work: &mut LayerWork, width: usize, gradients: &mut [f32]) {
        let time = self.time();
        let (sine, phase) = (&mut work.sine, &mut gradients[self.places.time[1].clone()]);
        sine.resize(time.phase.len(), 0.0);
        sin_row(sine, 0.0, time.freq, time.phase);
        for row in 0..work.centres_gradient.rows() {
            let now = &work.centres_gradient.row(row)[width..];
            phase.iter_mut().zip(&*sine).zip(now).for_each(|((phase, &sine), &grad)| *phase -= sine * grad);
        }
    }

    /// Takes apart what [`join`](Self::join) put together, adding each part to the gradient of its weight.
    fn part(&self, joined: &[f32], parts: &[Option<Range<usize>>; 3], gradients: &mut [f32]) {
        let outputs = self.spec.width;
        for (row, numbers) in joined.chunks_exact(joined.len() / outputs).enumerate() {
            let mut start = 0;
            for part in parts.iter().flatten() {
                let columns = part.len() / outputs;
                add(&mut gradients[part.start + row * columns..][..columns], &numbers[start..start + columns]);
                start += columns;
            }
        }
    }
}

/// Adds the gradients of centres to those of the rows they are.
fn scatter(table: &mut [f32], below: Below<'_>, hop: &Hop, centres: &PaddedRows) {
    for (row, &centre) in hop.centres.iter().enumerate() {
        add(&mut table[centre as usize * below.stride..][..below.columns], &centres.row(row)[..below.columns]);
    }
}
