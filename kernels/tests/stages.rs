//! Tests the stages of models on a device against loops on the host.
#![allow(clippy::unwrap_used, reason = "tests")]

use tempograph_kernels::cube::{
    DeviceView, HostHop, HostView, IdleUnits, MailRows, Matrix, NormBlock, NormGradients, Projection, ProjectionBlock,
    ResidualNorm, ViewUploader, WeightLayout, Weights, at_centres, at_centres_backward, mail_rows,
};
use tempograph_kernels::tensor::{WgpuRuntime, vulkan};
use tempograph_kernels::{Dropout, MailPlan, Neighbours};

type Runtime = WgpuRuntime;

fn absent() -> bool {
    vulkan().inspect_err(|why| println!("skipped: {why}")).is_err()
}

fn numbers(seed: usize, count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 + seed * 101) as f32 * 0.73).sin()).collect()
}

#[track_caller]
fn assert_close(what: &str, ours: &[f32], expected: &[f32]) {
    assert_eq!(ours.len(), expected.len(), "{what}");
    for (i, (ours, expected)) in ours.iter().zip(expected).enumerate() {
        assert!((ours - expected).abs() <= 2e-5 * expected.abs().max(1.0), "{what}, {i}: {ours} for {expected}");
    }
}

/// Weights in the order of their layout, with these numbers.
fn weights(layout: WeightLayout, values: &[f32]) -> Weights<Runtime> {
    let mut weights = Weights::new(&Default::default(), layout);
    weights.set_values(values);
    weights
}

/// Gradients of all weights.
fn found(weights: &Weights<Runtime>) -> Vec<f32> {
    weights.read_gradients(&weights.send(&[0.0], 1)).1
}

/// Centres among `rows` nodes with idle times. Some are the ends of a batch.
fn past(rows: usize, centres: &[u32], idle: &[f32], ends: &[u32]) -> DeviceView<Runtime> {
    let neighbours = Neighbours { roots: centres.len(), count: vec![0; centres.len()], ..Neighbours::default() };
    let nodes: Vec<u32> = (0..rows as u32).collect();
    let mail = MailPlan { unique: rows, ..MailPlan::default() };
    let hops = [HostHop { centres, neighbours: &neighbours, idle, age: &[] }];
    let sender = ViewUploader::new(&Default::default(), [0, 0], (None, 0), None, 1 << 20);
    sender.send(&HostView { nodes: &nodes, touched: &[], mail: &mail, hops: &hops, ends })
}

#[test]
fn rows_of_centres_hand_their_gradients_back_to_the_nodes() {
    if absent() {
        return;
    }
    let (rows, width, centres) = (4, 35, [2, 0, 2, 3, 2]);
    let past = past(rows, &centres, &[], &[]);
    let (table, grad) = (numbers(1, rows * width), numbers(2, centres.len() * (width + 3)));
    let at = at_centres(&past.hops()[0], &past.rows_of(&table, width));
    let expected: Vec<f32> = centres.iter().flat_map(|&row| table[row as usize * width..][..width].to_vec()).collect();
    assert_eq!(at.values(), expected);
    let back = at_centres_backward(&past.hops()[0], &past.rows_of(&grad, width + 3), 3, width);
    let mut expected = vec![0.0; rows * width];
    for (centre, &row) in centres.iter().enumerate() {
        (0..width).for_each(|i| expected[row as usize * width + i] += grad[centre * (width + 3) + 3 + i]);
    }
    assert_close("gradient", &back.values(), &expected);
}

#[test]
fn mail_holds_rows_of_its_events_ends() {
    if absent() {
        return;
    }
    let ends = [1, 0, 2, 2];
    let past = past(1, &[0, 0, 0], &[0.0; 3], &ends);
    let table: Vec<f32> = (0..6).map(|i| i as f32).collect();
    let context = |rows| mail_rows(&past, &past.rows_of(&table, 2), rows).values();
    assert_eq!(context(MailRows::Other), [2.0, 3.0, 0.0, 1.0, 4.0, 5.0, 4.0, 5.0]);
    assert_eq!(context(MailRows::Sum), [2.0, 4.0, 2.0, 4.0, 8.0, 10.0, 8.0, 10.0]);
    let both = [[0.0, 1.0, 2.0, 3.0], [2.0, 3.0, 0.0, 1.0], [4.0, 5.0, 4.0, 5.0], [4.0, 5.0, 4.0, 5.0]];
    assert_eq!(context(MailRows::Both), both.as_flattened());
}

#[test]
fn time_projections_and_their_gradients_are_those_of_the_host() {
    if absent() {
        return;
    }
    let (rows, width, centres, idle) = (3, 5, [2, 0, 2, 1], [4.0, 0.0, 9.0, 1.0]);
    let past = past(rows, &centres, &idle, &[]);
    let (hop, table) = (&past.hops()[0], numbers(1, rows * width));
    let dropout = Dropout { rate: 0.4, seed: 7 };
    for (bias, second, dropout) in [(false, None, None), (true, Some([1.0, 3.0]), Some(dropout))] {
        let (first, parts) = ([0.5, 2.0], 1 + usize::from(second.is_some()));
        let mut layout = WeightLayout::default();
        let block = ProjectionBlock::allocate(&mut layout, width, (0, bias.then_some(width)));
        let values = numbers(3, width * (1 + usize::from(bias)));
        let weights = weights(layout, &values);
        let projection = Projection::at(&weights, block, IdleUnits { first, second }, dropout);
        let grad = numbers(4, centres.len() * parts * width);
        let (mut out, mut of_table, mut of_weights) = (Vec::new(), vec![0.0; rows * width], vec![0.0; values.len()]);
        for (centre, &row) in centres.iter().enumerate() {
            for [shift, scale] in std::iter::once(first).chain(second) {
                for i in 0..width {
                    let (at, own, dt) = (out.len(), table[row as usize * width + i], (idle[centre] - shift) / scale);
                    let by = 1.0 + dt * values[i] + if bias { values[width + i] } else { 0.0 };
                    let kept = dropout.map_or(1.0, |dropout| dropout.factor(at as u64));
                    out.push(own * by * kept);
                    let grad = grad[at] * kept;
                    of_table[row as usize * width + i] += grad * by;
                    of_weights[i] += grad * own * dt;
                    if bias {
                        of_weights[width + i] += grad * own;
                    }
                }
            }
        }
        let table = past.rows_of(&table, width);
        assert_close("projected", &projection.forward(hop, &table).values(), &out);
        let back = projection.backward(hop, &table, &past.rows_of(&grad, parts * width));
        assert_close("gradient of the table", &back.values(), &of_table);
        assert_close("gradients of weights", &found(&weights), &of_weights);
    }
}

/// The loss `sum(out * by)` of norms on the host, and their output.
fn normed(
    [one, other, values]: [&[f32]; 3],
    (width, stride): (usize, usize),
    dropout: Option<Dropout>,
    by: &[f32],
) -> (f64, Vec<f32>) {
    let mut out = Vec::new();
    for (row, one) in one.chunks(width).enumerate() {
        let kept = |i: usize| dropout.map_or(1.0, |dropout| f64::from(dropout.factor((row * width + i) as u64)));
        let sum: Vec<f64> =
            (0..width).map(|i| f64::from(one[i]) * kept(i) + f64::from(other[row * stride + i])).collect();
        let mean = sum.iter().sum::<f64>() / width as f64;
        let variance = sum.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / width as f64;
        let scale = |i: usize| f64::from(values[i]) / (variance + 1e-5).sqrt();
        out.extend((0..width).map(|i| (sum[i] - mean) * scale(i) + f64::from(values[width + i])));
    }
    let loss = out.iter().zip(by).map(|(x, &by)| x * f64::from(by)).sum();
    (loss, out.iter().map(|&x| x as f32).collect())
}

#[test]
fn residual_norms_and_their_gradients_are_those_of_the_host() {
    if absent() {
        return;
    }
    for (n, width, behind, dropout) in
        [(1, 1, 3, None), (3, 7, 2, Some(Dropout { rate: 0.3, seed: 5 })), (2, 300, 0, None)]
    {
        let mut layout = WeightLayout::default();
        let block = NormBlock::allocate(&mut layout, width, [0, width]);
        let values = numbers(1, 2 * width);
        let weights = weights(layout, &values);
        let norm = ResidualNorm::at(&weights, block, dropout);
        let stride = width + 2;
        let (one, other, beside) = (numbers(2, n * width), numbers(3, n * stride), numbers(4, n * 4));
        let send = |rows: &[f32], columns: usize| -> Matrix<Runtime> { weights.send(rows, columns) };
        let (out, kept) = norm.forward(&send(&one, width), &send(&other, stride), (&send(&beside, 4), behind));
        let by = numbers(5, n * width);
        let (loss, expected) = normed([&one, &other, &values], (width, stride), dropout, &by);
        let (all, rows) = (out.columns(), out.values());
        for row in 0..n {
            let found = &rows[row * all..][..all];
            assert_close("normed", &found[..width], &expected[row * width..][..width]);
            assert_eq!(found[width..width + behind], beside[row * 4..][..behind]);
            assert_eq!(found[width + behind], 1.0);
        }
        let mut grad = vec![0.0; n * all];
        (0..n).for_each(|row| grad[row * all..][..width].copy_from_slice(&by[row * width..][..width]));
        let NormGradients { one: of_one, other: of_other } = norm.backward(&kept, &send(&grad, all));
        // derivatives by finite differences
        let slope = |which: usize, at: usize| {
            let mut moved = [one.clone(), other.clone(), values.clone()];
            moved[which][at] += 1e-2;
            let above = normed(moved.each_ref().map(|rows| &rows[..]), (width, stride), dropout, &by).0;
            moved[which][at] -= 2e-2;
            let below = normed(moved.each_ref().map(|rows| &rows[..]), (width, stride), dropout, &by).0;
            ((above - below) / 2e-2) as f32
        };
        assert!(loss.is_finite());
        let of_weights = found(&weights);
        let close = |ours: f32, expected: f32| (ours - expected).abs() <= 5e-3 * expected.abs().max(1.0);
        for at in (0..n * width).step_by(1 + n * width / 40).filter(|_| width > 1) {
            assert!(close(of_one.values()[at], slope(0, at)), "{width}: gradient {at} of what is dropped of");
            let place = at / width * stride + at % width;
            assert!(close(of_other.values()[at], slope(1, place)), "{width}: gradient {at} of what it is added to");
        }
        for at in (0..2 * width).step_by(1 + width / 20) {
            assert!(close(of_weights[at], slope(2, at)), "{width}: gradient {at} of weight and bias");
        }
    }
}
