//! The registry: the only list of the kinds of models.

use std::any::Any;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use tempograph_kernels::tensor::Backend;

use crate::executor::{ProgramModule, SliceProgram};
use crate::facts::DatasetStats;
use crate::program::{Builder, FeatureWidths, Inputs, Outputs, Program};
use crate::static_memory::StaticSpec;

/// A kind of model: its settings, and how they become a program.
///
/// A new model implements only this. See [`Registry`] for how it gets its name in specs.
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

    /// Its program on slices of host memory with initial parameters, drawn from `seed`.
    ///
    /// # Errors
    /// As [`program`](Self::program).
    pub fn on_slices(&self, features: FeatureWidths, seed: u64) -> Result<SliceProgram, String> {
        Ok(SliceProgram::new(self.program(features)?, seed))
    }

    /// Its program on tensors with initial parameters, drawn from `seed`.
    ///
    /// # Errors
    /// As [`program`](Self::program).
    pub fn on_tensors<B: Backend>(
        &self,
        features: FeatureWidths,
        seed: u64,
        device: &B::Device,
    ) -> Result<ProgramModule<B>, String> {
        Ok(ProgramModule::new(self.program(features)?, seed, device))
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

impl Default for ModelSpec {
    fn default() -> ModelSpec {
        crate::TgnSpec::default().into()
    }
}

impl Serialize for ModelSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.table().map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ModelSpec {
    /// A table whose `kind` is in the [registry](Registry::current). Missing keys get the kind's defaults.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ModelSpec, D::Error> {
        let table = toml::Table::deserialize(deserializer)?;
        Registry::current().read(table).map_err(D::Error::custom)
    }
}

/// The registry's entry of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name in specs.
    pub name: &'static str,
    /// A description in one line.
    pub about: &'static str,
    /// Its source.
    pub paper: &'static str,
    /// The `[model]` table of a new spec, every key explained.
    pub template: &'static str,
    read: fn(toml::Table) -> Result<ModelSpec, String>,
    default: fn() -> ModelSpec,
}

impl Kind {
    /// Its default settings.
    pub fn settings(&self) -> ModelSpec {
        (self.default)()
    }
}

/// The kinds of models that specs can name.
#[derive(Clone, Debug)]
pub struct Registry {
    kinds: Vec<Kind>,
}

/// The registry of this process, once it was read or installed.
static CURRENT: OnceLock<Registry> = OnceLock::new();

impl Default for Registry {
    /// All kinds of this crate.
    fn default() -> Registry {
        Registry { kinds: Vec::new() }
            .with::<crate::TgnSpec>()
            .with::<crate::JodieSpec>()
            .with::<crate::DyrepSpec>()
            .with::<crate::TgatSpec>()
            .with::<crate::ApanSpec>()
            .with::<crate::GraphMixerSpec>()
            .with::<crate::StaticOnlySpec>()
            .with::<crate::TncnSpec>()
    }
}

impl Registry {
    /// Adds a kind. It replaces a kind of the same name.
    #[must_use]
    pub fn with<K: ModelKind>(mut self) -> Registry {
        self.kinds.retain(|kind| kind.name != K::KIND);
        self.kinds.push(Kind {
            name: K::KIND,
            about: K::ABOUT,
            paper: K::PAPER,
            template: K::TEMPLATE,
            read: |table| {
                table.try_into::<K>().map(ModelSpec::from).map_err(|error| tempograph_framework::explain_toml(&error))
            },
            default: || K::default().into(),
        });
        self
    }

    /// The kinds, in the order they were added.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// The kind called `name`.
    ///
    /// # Errors
    /// A sentence with the nearest known name.
    pub fn kind(&self, name: &str) -> Result<&Kind, String> {
        self.kinds.iter().find(|kind| kind.name == name).ok_or_else(|| {
            let names = self.kinds.iter().map(|kind| kind.name);
            format!("model.kind = \"{name}\"; {}", nearest(name, names))
        })
    }

    /// The settings in `table`. Its key `kind` selects the kind; `tgn` if it is missing.
    ///
    /// # Errors
    /// A sentence for an unknown kind or key, with the nearest known one, or for an invalid value.
    pub fn read(&self, mut table: toml::Table) -> Result<ModelSpec, String> {
        let kind = match table.remove("kind") {
            None => self.kind(<crate::TgnSpec as ModelKind>::KIND)?,
            Some(toml::Value::String(name)) => self.kind(&name)?,
            Some(other) => return Err(format!("model.kind = {other}; it is a name in quotes")),
        };
        (kind.read)(table)
    }

    /// Makes this the registry of the process. Specs and artifacts are read with it.
    ///
    /// # Errors
    /// The registry itself, if another was used or installed before.
    pub fn install(self) -> Result<(), Registry> {
        CURRENT.set(self)
    }

    /// The registry of the process: the [installed](Self::install) one, or else that of this crate.
    pub fn current() -> &'static Registry {
        CURRENT.get_or_init(Registry::default)
    }
}

/// A sentence with the known name that is nearest to an unknown one.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match tempograph_framework::nearest(name, known.clone()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("the kinds are {}", known.collect::<Vec<_>>().join(", ")),
    }
}
