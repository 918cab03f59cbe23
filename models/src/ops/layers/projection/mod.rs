//! JODIE's time projection, `z = (1 + dt w [+ b]) * s`: the predicted row of a node that had no event for `dt`.
#[cfg(feature = "cube")]
mod device;

use tempograph_kernels::cpu::{PaddedRows, add};
use tempograph_kernels::tensor::{CpuTape, Tensor};
use tempograph_kernels::{Dropout, TemporalOps, gather_rows, product};

use crate::operation::{
    Axis, Builder, Context, Gradients, Operation, Param, Products, Shape, Stage, StepSizes, TableGradients, Tables,
    TensorContext, Value,
};
use crate::ops::tables::centres::{centre_nodes, centre_nodes_into};
use crate::ops::tables::dropout::{drop_from, drop_on_tensors, of_rows};

/// Normalisation of idle times: `(ticks - shift) / scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IdleNormalisation {
    /// Ticks that count as zero.
    pub shift: f64,
    /// Ticks that count as one.
    pub scale: f64,
}

/// Settings of a time projection.
#[derive(Clone, Debug)]
pub struct TimeProjectionSettings {
    /// Normalisations of idle times: one for all, or one for sources and another for destinations. With two, a row is
    /// that of the root as a source, then as a destination: see [`Builder::link_decoder_by_role`].
    pub units: Vec<IdleNormalisation>,
    /// Whether it has a bias.
    pub bias: bool,
    /// Share of its numbers that a training step drops.
    pub dropout: f32,
}

/// Scales the rows of the roots by their idle times.
#[derive(Clone, Debug)]
pub struct TimeProjection {
    /// `[D]`.
    pub(crate) drift: Param,
    /// `[D]`.
    pub(crate) bias: Option<Param>,
    /// Shift and scale of each normalisation.
    pub(crate) units: Vec<[f32; 2]>,
    pub(crate) dropout: f32,
}

impl Builder {
    /// The rows of the roots scaled by their idle times. Its parameters are called `NAME.drift` and, where it has one,
    /// `NAME.bias`.
    pub fn time_projection(&mut self, name: &str, table: Value, settings: &TimeProjectionSettings) -> Value {
        let width = self.width(table);
        self.require_idle_times();
        let bound = 1.0 / (width as f32).sqrt();
        let drift = self.parameters.uniform(&format!("{name}.drift"), &[width], bound);
        let bias = settings.bias.then(|| self.parameters.uniform(&format!("{name}.bias"), &[width], bound));
        let units: Vec<[f32; 2]> = settings.units.iter().map(|unit| [unit.shift as f32, unit.scale as f32]).collect();
        let shape = Shape { axis: Axis::Centres(0), width: width * units.len() };
        let op = TimeProjection { drift, bias, units, dropout: settings.dropout };
        self.push(name, op, &[table], shape)
    }
}

impl TimeProjection {
    /// Checks that it can run on a device. The error names the setting.
    pub(crate) fn check_device_support(&self) -> Result<(), String> {
        match self.units.len() {
            1 | 2 => Ok(()),
            units => Err(format!("projections of times counted in {units} ways")),
        }
    }

    fn dropped(&self, seed: Option<u64>) -> Option<Dropout> {
        of_rows(self.dropout, seed, 0)
    }

    pub(crate) fn on_tensors<B: TemporalOps>(&self, cx: &TensorContext<'_, B>, table: &Tensor<B, 2>) -> Tensor<B, 2> {
        let hop = &cx.view.hops[0];
        let centres = gather_rows(table.clone(), centre_nodes(cx.view, 0));
        let in_units = |&[shift, scale]: &[f32; 2]| {
            let idle = hop.idle.iter().map(|idle| (idle - shift) / scale).collect();
            let mut drift = product(cx.from_rows(idle, [hop.centres.len(), 1]), cx.vector(self.drift).unsqueeze());
            if let Some(bias) = self.bias {
                drift = drift + cx.vector(bias).unsqueeze();
            }
            centres.clone() * (drift + 1.0)
        };
        drop_on_tensors(cx, Tensor::cat(self.units.iter().map(in_units).collect(), 1), self.dropped(cx.dropout))
    }
}

impl Operation for TimeProjection {
    fn describe(&self) -> String {
        let unit = |[shift, scale]: &[f32; 2]| match *shift == 0.0 {
            true => format!("{scale} ticks count as one"),
            false => format!("{scale} ticks from {shift} on count as one"),
        };
        format!("time projection, {}", self.units.iter().map(unit).collect::<Vec<_>>().join("; for destinations "))
    }

    fn stage(&self) -> Box<dyn Stage> {
        Box::new(ProjectionStage {
            op: self.clone(),
            nodes: Vec::new(),
            centres: PaddedRows::default(),
            centres_gradient: PaddedRows::default(),
        })
    }

    fn has_dropout(&self) -> bool {
        self.dropout > 0.0
    }

    fn cost(&self, _: &StepSizes, _: &mut Products) {}

    fn on_tape(&self, cx: &TensorContext<'_, CpuTape>, reads: &[Tensor<CpuTape, 2>]) -> Tensor<CpuTape, 2> {
        self.on_tensors(cx, &reads[0])
    }
}

#[derive(Debug)]
struct ProjectionStage {
    op: TimeProjection,
    /// Rows of the roots in the table.
    nodes: Vec<u32>,
    /// `[C, D]`
    centres: PaddedRows,
    centres_gradient: PaddedRows,
}

impl Stage for ProjectionStage {
    fn forward(&mut self, cx: &Context<'_>, reads: Tables<'_>, out: &mut PaddedRows) {
        let (table, hop, drift) = (reads.table(0), &cx.view.hops[0], cx.weights.values(self.op.drift));
        let bias = self.op.bias.map(|bias| cx.weights.values(bias));
        centre_nodes_into(cx.view, 0, &mut self.nodes);
        self.centres.gather(&table.values, table.stride(), table.columns(), &self.nodes);
        out.resize(self.centres.rows(), table.columns() * self.op.units.len());
        for row in 0..self.centres.rows() {
            for (part, [shift, scale]) in out.row_mut(row).chunks_exact_mut(table.columns()).zip(&self.op.units) {
                let idle = (hop.idle[row] - shift) / scale;
                let numbers = part.iter_mut().zip(self.centres.row(row).iter().zip(drift));
                match bias {
                    None => numbers.for_each(|(out, (&s, &w))| *out = s * (idle * w + 1.0)),
                    Some(bias) => {
                        numbers.zip(bias).for_each(|((out, (&s, &w)), &b)| *out = s * (idle * w + b + 1.0));
                    }
                }
            }
        }
        drop_from(out, self.op.dropped(cx.dropout));
    }

    fn backward(
        &mut self,
        cx: &Context<'_>,
        reads: Tables<'_>,
        grad: &mut PaddedRows,
        into: &mut TableGradients<'_>,
        gradients: &mut Gradients<'_>,
    ) {
        let (hop, drift) = (&cx.view.hops[0], cx.weights.values(self.op.drift));
        let bias = self.op.bias.map(|bias| cx.weights.values(bias));
        let (table, of_table) = (reads.table(0), into.table(0, reads.table(0)));
        of_table.values.fill(0.0);
        gradients.zero(std::iter::once(self.op.drift).chain(self.op.bias));
        drop_from(grad, self.op.dropped(cx.dropout));
        self.centres_gradient.zeros(self.centres.rows(), self.centres.columns());
        for row in 0..self.centres.rows() {
            let centre = self.centres.row(row);
            for (grad, [shift, scale]) in grad.row(row).chunks_exact(table.columns()).zip(&self.op.units) {
                let idle = (hop.idle[row] - shift) / scale;
                let of_drift = gradients.param_mut(self.op.drift);
                of_drift.iter_mut().zip(centre.iter().zip(grad)).for_each(|(of, (&s, &grad))| *of += idle * s * grad);
                if let Some(bias) = self.op.bias {
                    let of_bias = gradients.param_mut(bias);
                    of_bias.iter_mut().zip(centre.iter().zip(grad)).for_each(|(of, (&s, &grad))| *of += s * grad);
                }
                let of_centre = self.centres_gradient.row_mut(row).iter_mut().zip(grad).enumerate();
                of_centre.for_each(|(i, (of, &grad))| {
                    *of += grad * (idle * drift[i] + bias.map_or(0.0, |bias| bias[i]) + 1.0);
                });
            }
        }
        for (row, &node) in self.nodes.iter().enumerate() {
            add(of_table.row_mut(node as usize), self.centres_gradient.row(row));
        }
    }
}
