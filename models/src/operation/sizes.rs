//! The sizes of a step, and the arithmetic that operations count from them.

use rustc_hash::FxHashSet;
use tempograph_framework::{Batch, MailView, Queries, View};

/// The sizes of a step that its cost depends on. All costs are linear in them, so the mean step has the mean cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepSizes {
    /// Distinct nodes read, `U`.
    pub nodes: f64,
    /// Distinct nodes whose memory and mail are written.
    pub written: f64,
    /// Nodes that read mail.
    pub receivers: f64,
    /// Nodes updated without mail.
    pub silent: f64,
    /// Mails read.
    pub mails: f64,
    /// One entry per hop, the roots first.
    pub hops: Vec<HopSizes>,
    /// Events that the second look shows, summed over all roots.
    pub window: f64,
    /// Distinct events among mails and neighbours.
    pub feature_rows: f64,
    /// Pairs scored, `P`.
    pub pairs: f64,
    /// Distinct rows among the pairs' sources.
    pub sources: f64,
    /// Distinct rows among the pairs' destinations.
    pub destinations: f64,
}

/// The sizes of a hop.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HopSizes {
    /// Centres, `C`.
    pub centres: f64,
    /// Neighbours of all centres together.
    pub neighbours: f64,
}

impl StepSizes {
    /// The sizes of a hop; zeros if the hop was not read.
    pub fn hop(&self, hop: usize) -> HopSizes {
        self.hops.get(hop).copied().unwrap_or_default()
    }

    /// The sizes of the step that learns from `batch`, with these queries and this view.
    pub fn of(queries: &Queries, view: &View, batch: &Batch<'_>) -> StepSizes {
        let mut events: FxHashSet<u64> = FxHashSet::default();
        let [receivers, silent] = match &view.mail {
            MailView::Last(plan) => {
                let with_mail = plan.event.iter().zip(&plan.empty).filter(|(_, empty)| !**empty);
                events.extend(with_mail.map(|(event, _)| event));
                let silent = plan.empty.iter().filter(|empty| **empty).count();
                [plan.rows.len() - silent, silent]
            }
            MailView::Many(mails) => {
                events.extend(&mails.event);
                let silent = mails.starts.windows(2).filter(|ends| ends[0] == ends[1]).count();
                [mails.rows.len() - silent, silent]
            }
        };
        let mails = match &view.mail {
            MailView::Last(_) => receivers,
            MailView::Many(mails) => mails.event.len(),
        };
        for hop in &view.hops {
            let near = &hop.neighbours;
            for (events_of, &count) in near.event.chunks(near.k.max(1)).zip(&near.count) {
                events.extend(&events_of[..count as usize]);
            }
        }
        let rows = |end: fn(&tempograph_framework::Pair) -> u32| {
            let distinct: FxHashSet<u32> = queries.pairs().iter().map(|pair| view.roots[end(pair) as usize]).collect();
            distinct.len() as f64
        };
        let written: FxHashSet<u32> = batch.src.iter().chain(batch.dst).map(|node| node.0).collect();
        let hops = view.hops.iter().map(|hop| HopSizes {
            centres: hop.centres.len() as f64,
            neighbours: hop.neighbours.count.iter().map(|&count| f64::from(count)).sum(),
        });
        StepSizes {
            nodes: view.nodes.len() as f64,
            written: written.len() as f64,
            receivers: receivers as f64,
            silent: silent as f64,
            mails: mails as f64,
            hops: hops.collect(),
            window: view.window.row.len() as f64,
            feature_rows: events.len() as f64,
            pairs: queries.pairs().len() as f64,
            sources: rows(|pair| pair.src),
            destinations: rows(|pair| pair.dst),
        }
    }

    /// The mean of some steps of one model; the default for no steps.
    pub fn mean(steps: &[StepSizes]) -> StepSizes {
        let mut mean = StepSizes::default();
        let share = 1.0 / steps.len().max(1) as f64;
        for step in steps {
            mean.hops.resize(step.hops.len(), HopSizes::default());
            for (sum, one) in mean.numbers_mut().into_iter().zip(step.clone().numbers_mut()) {
                *sum += share * *one;
            }
        }
        mean
    }

    fn numbers_mut(&mut self) -> Vec<&mut f64> {
        let StepSizes {
            nodes,
            written,
            receivers,
            silent,
            mails,
            hops,
            window,
            feature_rows,
            pairs,
            sources,
            destinations,
        } = self;
        let hops = hops.iter_mut().flat_map(|HopSizes { centres, neighbours }| [centres, neighbours]);
        [nodes, written, receivers, silent, mails, window, feature_rows, pairs, sources, destinations]
            .into_iter()
            .chain(hops)
            .collect()
    }
}

/// Products of one multiplication and one addition.
#[derive(Clone, Copy, Debug, Default)]
pub struct Products {
    /// In the forward pass.
    pub forward: f64,
    /// In the backward pass.
    pub backward: f64,
}

impl Products {
    /// The same in floating-point operations: a multiplication and an addition are two.
    pub fn flops(self) -> Products {
        Products { forward: 2.0 * self.forward, backward: 2.0 * self.backward }
    }

    /// Adds a linear map of `rows` rows. Its backward pass computes the gradients of the weights and of `learned` of
    /// the inputs.
    pub fn map(&mut self, rows: f64, inputs: usize, outputs: usize, learned: usize) {
        self.forward += rows * (inputs * outputs) as f64;
        self.backward += rows * ((inputs + learned) * outputs) as f64;
    }

    /// Adds the scores and sums of `reads` rows of `x` columns, `learned` of which have a gradient.
    pub fn attend(&mut self, reads: f64, x: usize, learned: usize) {
        self.forward += reads * (2 * x) as f64;
        self.backward += reads * (2 * x + 2 * learned) as f64;
    }
}
