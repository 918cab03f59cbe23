//! Trains static memory by passes over the training events, and decides when to stop. `models/src/static_memory/mod.rs`
//! explains why it is done so.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use tempograph_framework::{Draw, EventLog, NodeId, Purpose, PurposeDraw, average_precision, link_loss_on_slices};
use tempograph_models::{PretrainSpec, StaticMemoryTrainer};

/// Events evaluated at once.
const EVALUATION_BATCH: usize = 4096;

/// The inputs of a pretraining.
pub(crate) struct Pretraining<'a> {
    pub log: &'a EventLog,
    /// The training events. No other event is read.
    pub train: Range<usize>,
    pub nodes: usize,
    /// Width of the vectors, and of the hidden layer of the decoder.
    pub widths: [usize; 2],
    pub spec: &'a PretrainSpec,
    pub seed: u64,
    pub stop: &'a AtomicBool,
}

/// The result of a pretraining.
pub(crate) struct PretrainedVectors {
    /// `[N, S]`
    pub vectors: Vec<f32>,
    /// Passes over all training events.
    pub epochs: usize,
    /// The metrics of the best pass over the other events on the held-out tail, if there is one.
    pub tail: Option<HeldOutMetrics>,
}

/// Metrics of the held-out tail against its negatives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeldOutMetrics {
    /// The loss, as the trainer's.
    pub loss: f32,
    /// Average precision, one negative an event.
    pub ap: f64,
}

/// A progress report.
pub(crate) enum PretrainProgress {
    /// Events done of those of a pass, and its number, counted from 1.
    Events { epoch: usize, done: usize, of: usize },
    /// A pass without the tail is done, with the metrics of the tail.
    Passed { epoch: usize, loss: f64, tail: HeldOutMetrics },
    /// The passes over all training events begin.
    FinalPasses { epochs: usize },
}

impl Pretraining<'_> {
    /// Finds the best number of passes, then makes them on all events. `None` if stopped.
    ///
    /// # Errors
    /// Training events with a single destination, or a loss that is not finite.
    pub fn run(&self, heard: &mut dyn FnMut(PretrainProgress)) -> Result<Option<PretrainedVectors>> {
        let (head, tail) = self.cut();
        let (epochs, tail) = match tail.is_empty() {
            true => (self.spec.epochs, None),
            false => match self.best(&Pool::of(self.log, head)?, tail, heard)? {
                Some((epochs, tail)) => (epochs, Some(tail)),
                None => return Ok(None),
            },
        };
        heard(PretrainProgress::FinalPasses { epochs });
        let (mut graph, pool) = (self.fresh(), Pool::of(self.log, self.train.clone())?);
        for epoch in 1..=epochs {
            if self.pass(&mut graph, &pool, epoch, heard)?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(PretrainedVectors { vectors: graph.vectors(), epochs, tail }))
    }

    fn fresh(&self) -> StaticMemoryTrainer {
        let [width, decoder] = self.widths;
        StaticMemoryTrainer::new(self.nodes, width, decoder, self.seed)
    }

    /// The training events without the tail, and the tail.
    fn cut(&self) -> (Range<usize>, Range<usize>) {
        let tail = (self.train.len() as f64 * self.spec.tail) as usize;
        let at = self.train.end - tail;
        (self.train.start..at, at..self.train.end)
    }

    /// The number of passes over the pool's events at which the loss of `tail` is least.
    fn best(
        &self,
        pool: &Pool<'_>,
        tail: Range<usize>,
        heard: &mut dyn FnMut(PretrainProgress),
    ) -> Result<Option<(usize, HeldOutMetrics)>> {
        let mut graph = self.fresh();
        let mut best: Option<(usize, HeldOutMetrics)> = None;
        for epoch in 1..=self.spec.epochs {
            let Some(loss) = self.pass(&mut graph, pool, epoch, heard)? else { return Ok(None) };
            let found = self.evaluate(&mut graph, pool, tail.clone())?;
            heard(PretrainProgress::Passed { epoch, loss, tail: found });
            match best {
                Some((at, least)) if found.loss >= least.loss => {
                    if epoch - at >= self.spec.patience {
                        break;
                    }
                }
                _ => best = Some((epoch, found)),
            }
        }
        Ok(best)
    }

    /// One pass in a random order. Gives the mean loss, or `None` if stopped.
    fn pass(
        &self,
        graph: &mut StaticMemoryTrainer,
        pool: &Pool<'_>,
        epoch: usize,
        heard: &mut dyn FnMut(PretrainProgress),
    ) -> Result<Option<f64>> {
        let draw = Draw::new(self.seed);
        let mut order: Vec<usize> = pool.events.clone().collect();
        draw.of(Purpose::Sampling).at(epoch as u32, 0).shuffle(&mut order);
        let (mut pairs, mut sum) = (Vec::new(), 0.0);
        for (step, batch) in order.chunks(self.spec.batch).enumerate() {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            pool.ask(batch, self.spec.negatives, draw.of(Purpose::Negatives), epoch as u32, &mut pairs);
            let loss = graph.train_step(&pairs, self.spec.lr, self.spec.weight_decay, |scores, score_grads| {
                link_loss_on_slices(scores, batch.len(), score_grads)
            });
            if !loss.is_finite() {
                bail!(
                    "the loss of pass {epoch}, step {step} is {loss}; try a smaller pretrain.lr than {}",
                    self.spec.lr
                );
            }
            sum += f64::from(loss) * batch.len() as f64;
            heard(PretrainProgress::Events { epoch, done: step * self.spec.batch + batch.len(), of: order.len() });
        }
        Ok(Some(sum / order.len().max(1) as f64))
    }

    /// Loss and average precision, one negative an event, the same every time. Only events between nodes of the pool's
    /// events are evaluated: other nodes have no trained vector.
    fn evaluate(
        &self,
        graph: &mut StaticMemoryTrainer,
        pool: &Pool<'_>,
        events: Range<usize>,
    ) -> Result<HeldOutMetrics> {
        let draw = Draw::new(self.seed).of(Purpose::Evaluation);
        let known = |&event: &usize| graph.is_trained(self.log.src()[event]) && graph.is_trained(self.log.dst()[event]);
        let (all, mut pairs, mut score_grads) = (events.filter(known).collect::<Vec<_>>(), Vec::new(), Vec::new());
        if all.is_empty() {
            bail!(
                "the last of the training events name no nodes of the others: set pretrain.tail = 0 and pretrain.epochs"
            );
        }
        let (mut scores, mut labels, mut sum) = (Vec::new(), Vec::new(), 0.0);
        for batch in all.chunks(EVALUATION_BATCH) {
            pool.ask(batch, 1, draw, 0, &mut pairs);
            let found = graph.score_pairs(&pairs);
            sum += f64::from(link_loss_on_slices(found, batch.len(), &mut score_grads)) * batch.len() as f64;
            scores.extend_from_slice(found);
            labels.extend((0..found.len()).map(|pair| pair < batch.len()));
        }
        Ok(HeldOutMetrics { loss: (sum / all.len() as f64) as f32, ap: average_precision(&scores, &labels)? })
    }
}

/// The events to train on, and the destinations for their negatives.
struct Pool<'a> {
    log: &'a EventLog,
    events: Range<usize>,
    /// Of these events, ascending, at least two.
    destinations: Vec<NodeId>,
}

impl<'a> Pool<'a> {
    fn of(log: &'a EventLog, events: Range<usize>) -> Result<Pool<'a>> {
        let mut destinations = log.dst()[events.clone()].to_vec();
        destinations.sort_unstable();
        destinations.dedup();
        match destinations[..] {
            [] => bail!("there are no training events to learn from"),
            [only] => bail!("all training events have the destination {only}, so there is none to tell it from"),
            _ => Ok(Pool { log, events, destinations }),
        }
    }

    /// The pairs of the events, then `negatives` of each: its source with any destination but its own, as likely as any
    /// other.
    fn ask(&self, events: &[usize], negatives: usize, draw: PurposeDraw, epoch: u32, pairs: &mut Vec<[NodeId; 2]>) {
        let (src, dst) = (self.log.src(), self.log.dst());
        pairs.clear();
        pairs.extend(events.iter().map(|&event| [src[event], dst[event]]));
        for &event in events {
            let (mut chance, own) =
                (draw.at(epoch, event as u64), self.destinations.partition_point(|&node| node < dst[event]));
            pairs.extend((0..negatives).map(|_| {
                let place = chance.below(self.destinations.len() as u32 - 1) as usize;
                [src[event], self.destinations[place + usize::from(place >= own)]]
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempograph_framework::Timestamp;

    fn learning<'a>(
        log: &'a EventLog,
        train: Range<usize>,
        spec: &'a PretrainSpec,
        stop: &'a AtomicBool,
    ) -> Pretraining<'a> {
        Pretraining { log, train, nodes: 12, widths: [6, 6], spec, seed: 3, stop }
    }

    /// Each of 0 to 4 meets one of 5 to 9, from event 64 on another, and from 80 on 10 or 11.
    fn log() -> EventLog {
        let met = |i: u32| match i {
            0..64 => 5 + i % 5,
            64..80 => 5 + (i + 1) % 5,
            _ => 10 + i % 2,
        };
        let dst = (0..100).map(|i| NodeId(met(i))).collect();
        let time = (0..100).map(Timestamp).collect();
        EventLog::new((0..100).map(|i| NodeId(i % 5)).collect(), dst, time, vec![0.0; 100], None).unwrap()
    }

    #[test]
    fn static_vectors_learn_from_training_events_only() {
        let spec = PretrainSpec { epochs: 4, batch: 16, ..PretrainSpec::default() };
        let (log, stop) = (log(), AtomicBool::new(false));
        let learned = learning(&log, 0..80, &spec, &stop).run(&mut |_| ()).unwrap().unwrap();
        assert!(learned.vectors[..60].iter().any(|x| *x != 0.0) && learned.vectors[60..].iter().all(|x| *x == 0.0));
        // What comes after training may be anything.
        let other: Vec<NodeId> =
            log.dst().iter().enumerate().map(|(i, &dst)| if i < 80 { dst } else { NodeId(11) }).collect();
        let other = EventLog::new(log.src().to_vec(), other, log.time().to_vec(), vec![0.0; 100], None).unwrap();
        let again = learning(&other, 0..80, &spec, &stop).run(&mut |_| ()).unwrap().unwrap();
        assert_eq!(again.vectors, learned.vectors);
    }

    #[test]
    fn it_stops_when_the_tail_gets_worse_and_makes_as_many_passes_as_were_best() {
        let spec = PretrainSpec { epochs: 60, batch: 8, lr: 0.05, tail: 0.2, patience: 2, ..PretrainSpec::default() };
        let (log, stop) = (log(), AtomicBool::new(false));
        let (mut losses, mut anew) = (Vec::new(), 0);
        let learned = learning(&log, 0..80, &spec, &stop)
            .run(&mut |heard| match heard {
                PretrainProgress::Passed { tail, .. } => losses.push(tail.loss),
                PretrainProgress::FinalPasses { epochs } => anew = epochs,
                PretrainProgress::Events { .. } => {}
            })
            .unwrap()
            .unwrap();
        let least = losses.iter().copied().fold(f32::INFINITY, f32::min);
        let best = 1 + losses.iter().position(|loss| *loss == least).unwrap();
        assert_eq!((learned.epochs, anew, losses.len()), (best, best, best + 2), "{losses:?}");
        assert_eq!(learned.tail.unwrap().loss, least);
    }

    #[test]
    fn a_stop_leaves_nothing_and_a_single_destination_is_refused() {
        let spec = PretrainSpec::default();
        let (log, stop) = (log(), AtomicBool::new(true));
        assert!(learning(&log, 0..80, &spec, &stop).run(&mut |_| ()).unwrap().is_none());
        let one =
            EventLog::new(vec![NodeId(0); 4], vec![NodeId(5); 4], vec![Timestamp(0); 4], vec![0.0; 4], None).unwrap();
        let Err(refused) = learning(&one, 0..4, &spec, &AtomicBool::new(false)).run(&mut |_| ()) else {
            panic!("it went on")
        };
        assert!(refused.to_string().contains("destination 5"), "{refused}");
    }

    #[test]
    fn negatives_are_the_other_destinations_of_training_each_as_often() {
        let log = log();
        let pool = Pool::of(&log, 0..80).unwrap();
        let mut pairs = Vec::new();
        pool.ask(&[7], 4000, Draw::new(1).of(Purpose::Negatives), 0, &mut pairs);
        assert_eq!(pairs[0], [NodeId(2), NodeId(7)]);
        let count = |node| pairs[1..].iter().filter(|pair| **pair == [NodeId(2), NodeId(node)]).count();
        assert_eq!((count(7), [5, 6, 8, 9].map(count).iter().sum::<usize>()), (0, 4000));
        assert!([5, 6, 8, 9].map(count).iter().all(|&drawn| (850..1150).contains(&drawn)));
    }
}
