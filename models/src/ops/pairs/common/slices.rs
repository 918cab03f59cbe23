//! Common neighbours on slices.

use tempograph_kernels::cpu::{CommonRows, PaddedRows, PairEnds, PairRows};

use crate::operation::{Context, Gradients, Stage, TableGradients, Tables};
use crate::ops::pairs::common::{CommonNeighbours, EndColumns};
use crate::ops::tables::centres::centre_nodes_into;

#[derive(Debug)]
pub(crate) struct CommonStage {
    op: CommonNeighbours,
    common: CommonRows,
    of_ends: PairRows,
    /// `[P]` rows of the pairs' ends in the roots' table.
    pairs: [Vec<u32>; 2],
    /// Nodes of the rows below hop 0.
    below: Vec<u32>,
    /// Nodes of the roots.
    roots: Vec<u32>,
    /// `[P]` whether one end is among the neighbours of the other.
    met: Vec<bool>,
}

impl CommonStage {
    pub fn new(op: CommonNeighbours) -> CommonStage {
        CommonStage {
            op,
            common: CommonRows::default(),
            of_ends: PairRows::default(),
            pairs: Default::default(),
            below: Vec::new(),
            roots: Vec::new(),
            met: Vec::new(),
        }
    }

    /// Finds the neighbours of the pairs' ends.
    fn find_neighbours(&mut self, cx: &Context<'_>) {
        let CommonStage { op, common, pairs: [src, dst], below, roots, met, .. } = self;
        for (end, of) in [&mut *src, &mut *dst].into_iter().enumerate() {
            of.clear();
            of.extend(cx.pairs().map(|rows| rows[end]));
        }
        centre_nodes_into(cx.view, 1, below);
        common.fill(&cx.view.hops[0].neighbours, below);
        if op.ends.is_some_and(|(_, columns)| columns.met) {
            centre_nodes_into(cx.view, 0, roots);
            let node = |row: u32| roots[row as usize];
            met.clear();
            met.extend(src.iter().zip(&*dst).map(|(&i, &j)| common.names(i, node(j)) || common.names(j, node(i))));
        }
    }
}

/// The inputs of the parts made of the ends of these pairs.
fn ends<'a>(
    EndColumns { product, met }: EndColumns,
    table: &'a PaddedRows,
    [i, j]: &'a [Vec<u32>; 2],
    own: &'a [bool],
) -> PairEnds<'a> {
    PairEnds { table, i, j, product, own: met.then_some(own) }
}

impl Stage for CommonStage {
    fn forward(&mut self, cx: &Context<'_>, reads: Tables<'_>, out: &mut PaddedRows) {
        self.find_neighbours(cx);
        let CommonStage { op, common, pairs, met, .. } = self;
        out.zeros(pairs[0].len(), op.column() + op.width + 1);
        if let Some((_, columns)) = op.ends {
            PairRows::forward(ends(columns, reads.table(1), pairs, met), out);
        }
        common.forward([&pairs[0], &pairs[1]], reads.table(0), out, op.column());
    }

    fn backward(
        &mut self,
        _: &Context<'_>,
        reads: Tables<'_>,
        grad: &mut PaddedRows,
        into: &mut TableGradients<'_>,
        _: &mut Gradients<'_>,
    ) {
        let CommonStage { op, common, of_ends, pairs, met, .. } = self;
        common.backward([&pairs[0], &pairs[1]], grad, op.column(), into.table(0, reads.table(0)));
        if let Some((_, columns)) = op.ends {
            let table = reads.table(1);
            of_ends.backward(ends(columns, table, pairs, met), grad, into.table(1, table));
        }
    }
}
