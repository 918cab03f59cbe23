//! The settings of a model, of any kind.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};

use crate::operation::{Builder, FeatureWidths, Inputs};
use crate::program::{Outputs, Program};
use crate::settings::{DatasetStats, StaticSpec};

/// A kind of model: its settings, and how they become a program.
///
/// A new model implements only this. See [`Registry`](crate::Registry) for how it gets its name in specs.
pub trait ModelKind:
    Clone + Debug + PartialEq + Default + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// Its name in specs, `model.kind`.
    const KIND: &'static str;
    /// A description in one line.
    const ABOUT: &'static str;
    /// Its source.
    const PAPER: &'static str;
    /// The `[model]` table of a new spec, every key explained.
    const TEMPLATE: &'static str;

    /// Checks the settings. The error names the key and its value.
    ///
    /// # Errors
    /// One sentence.
    fn check(&self) -> Result<(), String>;

    /// Fills in missing settings that depend on the data.
    fn complete(&mut self, facts: &DatasetStats) {
        let _ = facts;
    }

    /// Its settings of static memory, if it may read any.
    fn static_memory(&self) -> Option<&StaticSpec> {
        None
    }

    /// Records the program.
    fn build(&self, g: &mut Builder) -> Outputs;
}

/// The settings of one model, of any kind.
#[derive(Clone, Debug)]
pub struct ModelSpec(Arc<dyn Settings>);

/// Settings of any kind, as a trait object.
trait Settings: Debug + Send + Sync {
    fn kind(&self) -> &'static str;
    fn check(&self) -> Result<(), String>;
    fn completed(&self, facts: &DatasetStats) -> ModelSpec;
    fn static_memory(&self) -> Option<&StaticSpec>;
    fn build(&self, g: &mut Builder) -> Outputs;
    fn table(&self) -> Result<toml::Table, toml::ser::Error>;
    fn as_any(&self) -> &dyn Any;
}

impl<K: ModelKind> Settings for K {
    fn kind(&self) -> &'static str {
        K::KIND
    }
    fn check(&self) -> Result<(), String> {
        ModelKind::check(self)
    }
    fn completed(&self, facts: &DatasetStats) -> ModelSpec {
        let mut settings = self.clone();
        settings.complete(facts);
        ModelSpec(Arc::new(settings))
    }
    fn static_memory(&self) -> Option<&StaticSpec> {
        ModelKind::static_memory(self)
    }
    fn build(&self, g: &mut Builder) -> Outputs {
        ModelKind::build(self, g)
    }
    fn table(&self) -> Result<toml::Table, toml::ser::Error> {
        toml::Table::try_from(self)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl<K: ModelKind> From<K> for ModelSpec {
    fn from(settings: K) -> ModelSpec {
        ModelSpec(Arc::new(settings))
    }
}

impl ModelSpec {
    /// Its kind.
    pub fn kind(&self) -> &'static str {
        self.0.kind()
    }

    /// Its settings, if they are of kind `K`.
    pub fn settings<K: ModelKind>(&self) -> Option<&K> {
        self.0.as_any().downcast_ref()
    }

    /// Checks the settings. The error names the key and its value.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<(), String> {
        self.0.check()?;
        self.program(FeatureWidths::default()).map(|_| ())
    }

    /// The same, with missing settings filled in from the data.
    #[must_use]
    pub fn completed(&self, facts: &DatasetStats) -> ModelSpec {
        self.0.completed(facts)
    }

    /// Its settings of static memory, if it may read any.
    pub fn static_memory(&self) -> Option<&StaticSpec> {
        self.0.static_memory()
    }

    /// Its program for data of these widths.
    ///
    /// # Errors
    /// One sentence that says what does not fit together.
    pub fn program(&self, features: FeatureWidths) -> Result<Arc<Program>, String> {
        Program::record(self, Inputs { features })
    }

    pub(crate) fn build(&self, g: &mut Builder) -> Outputs {
        self.0.build(g)
    }

    /// Its settings as a table, including its kind.
    fn table(&self) -> Result<toml::Table, toml::ser::Error> {
        let mut table = self.0.table()?;
        table.iter_mut().for_each(|(_, value)| shorten(value));
        table.insert("kind".into(), self.kind().into());
        Ok(table)
    }
}

/// Turns 0.10000000149011612 into 0.1: a table has all floats in double precision, also those that are settings in
/// single precision.
fn shorten(value: &mut toml::Value) {
    match value {
        toml::Value::Float(x) if f64::from(*x as f32) == *x => *x = (*x as f32).to_string().parse().unwrap_or(*x),
        toml::Value::Table(table) => table.iter_mut().for_each(|(_, value)| shorten(value)),
        _ => {}
    }
}

impl PartialEq for ModelSpec {
    fn eq(&self, other: &ModelSpec) -> bool {
        self.table().ok() == other.table().ok()
    }
}

impl Serialize for ModelSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.table().map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}
