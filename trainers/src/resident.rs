//! A model that trains on a device, with its history: the host asks, hands over, and hears how it went later.

use tempograph_framework::{Needs, Queries, ResidentModel, Store, StoreError, Update, View};

use crate::Crew;
use crate::direct::FlatAdam;
use crate::trainee::{Asked, Examinee, Found, NotFinite, StepSettings, Taken, Trainee};

/// A model on a device that trains there as the one lane of a plan, and the same model as a trainee of host views: that one is examined, and trains
/// what is shown as views. Only one of them has the weights and moments of now; the other gets them when it is asked.
pub struct Resident<M: ResidentModel> {
    model: M,
    host: Box<dyn Trainee>,
    newest: Newest,
}

/// Where the weights and moments of now are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Newest {
    Both,
    Device,
    Host,
}

impl<M: ResidentModel> Resident<M> {
    /// `model` on a device, and the same on `host`; both have the same weights and have not been trained.
    pub fn new(model: M, host: Box<dyn Trainee>) -> Resident<M> {
        Resident { model, host, newest: Newest::Both }
    }

    /// The one on host views, with the weights of now.
    fn host(&mut self) -> &mut dyn Trainee {
        if self.newest == Newest::Device {
            let (weights, moments) = (self.weights(), self.moments());
            let taken = self.host.restore_weights(weights).and_then(|()| self.host.restore_moments(moments));
            taken.unwrap_or_else(|error| unreachable!("both are the same model: {error}"));
            self.newest = Newest::Both;
        }
        &mut *self.host
    }

    fn bring_to_device(&mut self) -> Result<(), StoreError> {
        let parameters = self.model.parameters();
        let adam = FlatAdam::from_store(self.host.moments(), &parameters)?;
        self.model.set_parameters(&parameters.read(self.host.weights())?);
        self.model.set_moments(adam.steps, [&adam.first, &adam.second]);
        Ok(())
    }
}

impl<M: ResidentModel> Examinee for Resident<M> {
    fn needs(&self) -> Needs {
        self.host.needs()
    }

    fn answer(&mut self, queries: &Queries, view: &View) -> (&[f32], &Update) {
        self.host().answer(queries, view)
    }

    fn advance(&mut self, view: &View) -> &Update {
        self.host().advance(view)
    }
}

impl<M: ResidentModel> Trainee for Resident<M> {
    fn step(&mut self, asked: &Asked<'_>, settings: &StepSettings) -> Result<Taken<'_>, NotFinite> {
        self.host();
        self.newest = Newest::Host;
        self.host.step(asked, settings)
    }

    fn find(&mut self, asked: &[Option<Asked<'_>>], crew: &Crew) {
        self.host().find(asked, crew);
    }

    fn found(&self, lane: usize) -> &Found {
        self.host.found(lane)
    }

    fn update(&self, lane: usize) -> &Update {
        self.host.update(lane)
    }

    fn descend(&mut self, gradients: &mut [f32], settings: &StepSettings) -> f64 {
        self.host();
        self.newest = Newest::Host;
        self.host.descend(gradients, settings)
    }

    fn size(&self) -> usize {
        self.host.size()
    }

    fn weights(&self) -> Store {
        if self.newest == Newest::Device { self.model.parameters().to_store() } else { self.host.weights() }
    }

    fn restore_weights(&mut self, store: Store) -> Result<(), StoreError> {
        self.host().restore_weights(store)?;
        self.newest = Newest::Host;
        Ok(())
    }

    fn moments(&self) -> Store {
        if self.newest != Newest::Device {
            return self.host.moments();
        }
        let (steps, [first, second]) = self.model.moments();
        FlatAdam { steps, first, second, ..FlatAdam::default() }.to_store(&self.model.parameters())
    }

    fn restore_moments(&mut self, store: Store) -> Result<(), StoreError> {
        self.host().restore_moments(store)?;
        self.newest = Newest::Host;
        Ok(())
    }

    fn resident(&mut self) -> Option<&mut dyn ResidentModel> {
        if self.newest == Newest::Host {
            self.bring_to_device().unwrap_or_else(|error| unreachable!("both are the same model: {error}"));
        }
        self.newest = Newest::Device;
        Some(&mut self.model)
    }
}
