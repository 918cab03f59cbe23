//! Lanes whose passes are computed on devices, from views: histories and the optimiser are the host's.

use tempograph_framework::{DeviceModel, Gradients, Needs, Queries, SliceModel, Store, StoreError, Update, View};

use crate::Stages;
use crate::crew::Crew;
use crate::direct::Direct;
use crate::epoch::Clock;
use crate::trainee::{Asked, Examinee, Found, NotFinite, StepSettings, Taken, Trainee};

/// A model on some devices, whose lanes are dealt out to them in turn, and the same model on the host, which has the weights and the optimiser. A step
/// takes the weights to the devices and brings the lanes' gradients back, so that they are added up where and in the order in which they always are: how
/// many devices there are is not in its result.
pub struct OnDevices<D: DeviceModel, S: SliceModel> {
    devices: Vec<D>,
    host: Direct<S>,
    /// Whether the devices have the weights of now.
    current: bool,
    lanes: Vec<Lane>,
}

/// What one lane found.
#[derive(Default)]
struct Lane {
    found: Found,
    update: Update,
}

impl Lane {
    fn find(&mut self, device: &impl DeviceModel, asked: &Asked<'_>) {
        let (mut clock, Asked { queries, view, dropout, share, happens }) = (Clock::start(), *asked);
        let Gradients { loss, mut gradients, update } = device.find(queries, view, dropout, happens.as_ref());
        if share != 1.0 {
            gradients.iter_mut().for_each(|gradient| *gradient *= share);
        }
        // when the way back began is known to the device alone
        self.found = Found { gradients, loss, stages: Stages { forward: clock.lap(), ..Stages::default() } };
        self.update = update;
    }
}

impl<D: DeviceModel, S: SliceModel> OnDevices<D, S> {
    /// `host` and the same model on each of `devices`, all of one kind.
    ///
    /// # Panics
    /// Where there is no device.
    pub fn new(devices: Vec<D>, host: Direct<S>) -> OnDevices<D, S> {
        assert!(!devices.is_empty(), "lanes are computed somewhere");
        OnDevices { devices, host, current: false, lanes: vec![Lane::default()] }
    }

    /// The devices have the weights of now.
    fn send_weights(&mut self) {
        if !self.current {
            let values = self.host.model().parameters().values();
            self.devices.iter_mut().for_each(|device| device.set_parameters(values));
            self.current = true;
        }
    }
}

impl<D: DeviceModel, S: SliceModel> Examinee for OnDevices<D, S> {
    fn needs(&self) -> Needs {
        self.host.needs()
    }

    fn answer(&mut self, queries: &Queries, view: &View) -> (&[f32], &Update) {
        self.host.answer(queries, view)
    }

    fn advance(&mut self, view: &View) -> &Update {
        self.host.advance(view)
    }
}

impl<D: DeviceModel, S: SliceModel> Trainee for OnDevices<D, S> {
    fn step(&mut self, asked: &Asked<'_>, settings: &StepSettings) -> Result<Taken<'_>, NotFinite> {
        self.send_weights();
        self.lanes[0].find(&self.devices[0], asked);
        let Lane { found: Found { gradients, loss, stages }, update } = &mut self.lanes[0];
        if !loss.is_finite() {
            return Err(NotFinite { loss: *loss });
        }
        let mut clock = Clock::start();
        let gradient_norm = self.host.descend(gradients, settings);
        self.current = false;
        stages.step = clock.lap();
        Ok(Taken { loss: *loss, gradient_norm, update, stages: *stages })
    }

    fn find(&mut self, asked: &[Option<Asked<'_>>], crew: &Crew) {
        self.send_weights();
        let OnDevices { devices, lanes, host, .. } = self;
        let size = host.size();
        lanes.resize_with(asked.len().max(lanes.len()), Lane::default);
        crew.each(lanes.iter_mut().zip(asked).enumerate(), |(i, (lane, asked))| match asked {
            Some(asked) => lane.find(&devices[i % devices.len()], asked),
            None => lane.found.nothing(size),
        });
    }

    fn found(&self, lane: usize) -> &Found {
        &self.lanes[lane].found
    }

    fn update(&self, lane: usize) -> &Update {
        &self.lanes[lane].update
    }

    fn descend(&mut self, gradients: &mut [f32], settings: &StepSettings) -> f64 {
        self.current = false;
        self.host.descend(gradients, settings)
    }

    fn size(&self) -> usize {
        self.host.size()
    }

    fn weights(&self) -> Store {
        self.host.weights()
    }

    fn restore_weights(&mut self, store: Store) -> Result<(), StoreError> {
        self.current = false;
        self.host.restore_weights(store)
    }

    fn moments(&self) -> Store {
        self.host.moments()
    }

    fn restore_moments(&mut self, store: Store) -> Result<(), StoreError> {
        self.host.restore_moments(store)
    }
}
