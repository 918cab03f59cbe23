//! Common neighbours on tensors. Each neighbour is searched in the other list.

use tempograph_kernels::tensor::Tensor;
use tempograph_kernels::{TemporalOps, gather_rows};

use crate::operation::TensorContext;
use crate::ops::pairs::common::{CommonNeighbours, EndColumns};
use crate::ops::tables::centres::centre_nodes;

impl CommonNeighbours {
    pub(crate) fn on_tensors<B: TemporalOps>(&self, cx: &TensorContext<'_, B>, reads: &[Tensor<B, 2>]) -> Tensor<B, 2> {
        let (below, roots, near) = (centre_nodes(cx.view, 1), centre_nodes(cx.view, 0), &cx.view.hops[0].neighbours);
        let list = |root: u32| {
            let shown = &near.row[root as usize * near.k..][..near.count[root as usize] as usize];
            let mut nodes: Vec<u32> = shown.iter().map(|&row| below[row as usize]).collect();
            nodes.sort_unstable();
            nodes.dedup();
            nodes
        };
        let both = |[src, dst]: [u32; 2]| {
            let (of_src, of_dst) = (list(src), list(dst));
            of_src.into_iter().filter(|node| of_dst.contains(node)).collect::<Vec<u32>>()
        };
        let common: Vec<Vec<u32>> = cx.pairs().map(both).collect();
        let (pairs, most) = (common.len(), common.iter().map(Vec::len).max().unwrap_or(0));
        let mut parts = Vec::new();
        if let Some((width, EndColumns { product, met })) = self.ends {
            let [a, b] = [0, 1].map(|end| {
                let rows: Vec<u32> = cx.pairs().map(|rows| rows[end]).collect();
                gather_rows(reads[1].clone(), rows)
            });
            if product {
                parts.push(a.clone() * b.clone());
            }
            if met {
                let node = |row: u32| roots[row as usize];
                let met = |[src, dst]: [u32; 2]| list(src).contains(&node(dst)) || list(dst).contains(&node(src));
                let met = cx.pairs().map(|rows| if met(rows) { 1.0 } else { 0.0 }).collect();
                let met: Tensor<B, 2> = cx.from_rows(met, [pairs, 1]).repeat_dim(1, width);
                parts.extend([a * met.clone(), b * met]);
            }
        }
        parts.push(if most == 0 {
            Tensor::zeros([pairs, self.width], cx.device())
        } else {
            // a row of zeros pads the shorter lists
            let [nodes, width] = reads[0].dims();
            let padded = Tensor::cat(vec![reads[0].clone(), Tensor::zeros([1, width], cx.device())], 0);
            let slot = |list: &Vec<u32>, slot: usize| list.get(slot).copied().unwrap_or(nodes as u32);
            let rows: Vec<u32> = common.iter().flat_map(|list| (0..most).map(move |at| slot(list, at))).collect();
            gather_rows(padded, rows).reshape([pairs, most, width]).sum_dim(1).reshape([pairs, width])
        });
        parts.push(cx.from_rows(common.iter().map(|list| list.len() as f32).collect(), [pairs, 1]));
        Tensor::cat(parts, 1)
    }
}
