//! The registry: the only list of the kinds of models.

use std::sync::OnceLock;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::kinds::apan::ApanSpec;
use crate::kinds::dyrep::DyrepSpec;
use crate::kinds::graphmixer::GraphMixerSpec;
use crate::kinds::jodie::JodieSpec;
use crate::kinds::static_only::StaticOnlySpec;
use crate::kinds::tgat::TgatSpec;
use crate::kinds::tgn::TgnSpec;
use crate::kinds::tncn::TncnSpec;
use crate::program::{ModelKind, ModelSpec};

impl Default for ModelSpec {
    fn default() -> ModelSpec {
        TgnSpec::default().into()
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
            .with::<TgnSpec>()
            .with::<JodieSpec>()
            .with::<DyrepSpec>()
            .with::<TgatSpec>()
            .with::<ApanSpec>()
            .with::<GraphMixerSpec>()
            .with::<StaticOnlySpec>()
            .with::<TncnSpec>()
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
            None => self.kind(<TgnSpec as ModelKind>::KIND)?,
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
