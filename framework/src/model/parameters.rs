//! All weights of a model in one array, each with its own range and name.

use std::ops::Range;

use tempograph_kernels::cpu::Version;

use crate::{ModulePath, Store, StoreError};

/// Weights by name, one after the other in one array, in the order of their names.
///
/// Gradients and an optimiser's moments are arrays of the same length, so an optimiser's step, a sum over ranks or a
/// hash is one pass.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    values: Vec<f32>,
    version: Version,
    parts: Vec<Parameter>,
}

/// One weight of [`Parameters`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its dotted path in the model.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its range in the array.
    pub range: Range<usize>,
}

impl PartialEq for Parameters {
    /// Compares names, shapes and numbers, but not versions.
    fn eq(&self, other: &Parameters) -> bool {
        (&self.values, &self.parts) == (&other.values, &other.parts)
    }
}

impl Parameters {
    /// The weights of `store`.
    ///
    /// # Errors
    /// [`StoreError::Array`] for an array that is not of floats.
    pub fn from_store(mut store: Store) -> Result<Parameters, StoreError> {
        let mut all = Parameters::default();
        let mut names: Vec<String> = store.names().map(String::from).collect();
        names.sort_unstable();
        for name in names {
            let (shape, values) = store.take::<f32>(&name)?;
            let start = all.values.len();
            all.values.extend_from_slice(&values);
            all.parts.push(Parameter { name, shape, range: start..all.values.len() });
        }
        Ok(all)
    }

    /// The numbers of all weights, each row-major, matrices `[out, in]` as in PyTorch.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The same, for writing. The [`version`](Self::version) changes with each call.
    pub fn values_mut(&mut self) -> &mut [f32] {
        self.version = Version::fresh();
        &mut self.values
    }

    /// Version of the numbers: anything computed from another version is out of date.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The weights as named arrays.
    pub fn to_store(&self) -> Store {
        self.arrays(&self.values)
    }

    /// Named arrays of numbers that belong to the weights one by one: their gradients, their moments.
    ///
    /// # Panics
    /// If `values` is not as long as the weights.
    pub fn arrays(&self, values: &[f32]) -> Store {
        assert_eq!(values.len(), self.values.len(), "numbers beside the weights");
        let mut store = Store::default();
        for part in &self.parts {
            store.put(part.name.clone(), part.shape.clone(), values[part.range.clone()].to_vec());
        }
        store
    }

    /// The numbers of `store`, which has exactly the names and shapes of the weights.
    ///
    /// # Errors
    /// [`StoreError::Array`] for the first array that is missing, left over or of another shape.
    pub fn read(&self, mut store: Store) -> Result<Vec<f32>, StoreError> {
        let mut values = Vec::with_capacity(self.values.len());
        for Parameter { name, shape, .. } in &self.parts {
            let (found, numbers) = store.take::<f32>(name)?;
            if &found != shape {
                let problem = format!("has shape {found:?} where the model has {shape:?}");
                return Err(StoreError::Array { name: name.clone(), problem });
            }
            values.extend_from_slice(&numbers);
        }
        match store.names().next() {
            Some(name) => Err(StoreError::Array { name: name.into(), problem: "does not belong to this model".into() }),
            None => Ok(values),
        }
    }

    /// The weights, in the order of the array.
    pub fn parts(&self) -> &[Parameter] {
        &self.parts
    }

    /// The weight called `name`, if there is one.
    pub fn find(&self, name: &str) -> Option<&Parameter> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// The weight of the parameter that a module's visitor is at.
    ///
    /// # Panics
    /// Where there is none.
    pub(crate) fn of_module(&self, path: &ModulePath) -> &Parameter {
        let name = path.dotted();
        self.find(&name).unwrap_or_else(|| panic!("the model has no weight `{name}`"))
    }
}
