//! A model's weights by name.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use tempograph_kernels::tensor::{Backend, Tensor, TensorData};

use crate::{Parameters, Store, StoreError};

/// The weights of `model` under their dotted paths, matrices `[out, in]` as in PyTorch.
pub fn weights<B: Backend, M: Module<B>>(model: &M) -> Store {
    let mut collect = Collect::default();
    model.visit(&mut collect);
    collect.store
}

/// `model` with the weights of `store`, which must hold exactly its names and shapes.
///
/// # Errors
/// [`StoreError::Array`] for the first weight that is missing, left over or of another shape.
pub fn with_weights<B: Backend, M: Module<B>>(model: M, store: Store) -> Result<M, StoreError> {
    let mut fill = Fill { path: ModulePath::default(), store, error: None };
    let model = model.map(&mut fill);
    if let Some(error) = fill.error {
        return Err(error);
    }
    match fill.store.names().next() {
        Some(name) => Err(StoreError::Array { name: name.into(), problem: "does not belong to this model".into() }),
        None => Ok(model),
    }
}

/// `model` with the numbers of `parameters`, which must have a weight for each of its parameters.
///
/// # Panics
/// If a parameter of the model has no weight there, or one of another size.
pub fn with_parameters<B: Backend, M: Module<B>>(model: M, parameters: &Parameters) -> M {
    model.map(&mut Refresh { path: ModulePath::default(), parameters })
}

/// A visitor's current path in a module.
#[derive(Clone, Debug, Default)]
pub struct ModulePath(Vec<String>);

impl ModulePath {
    /// Enters the part called `name`. Enum variants are no part of a path: they only select which one is used.
    pub fn enter(&mut self, name: &str, container: &str) {
        self.0.push(if container.starts_with("Enum") { String::new() } else { name.to_string() });
    }

    /// Leaves the last part.
    pub fn exit(&mut self) {
        self.0.pop();
    }

    /// The dotted path.
    pub fn dotted(&self) -> String {
        self.0.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(".")
    }
}

#[derive(Default)]
struct Collect {
    path: ModulePath,
    store: Store,
}

impl<B: Backend> ModuleVisitor<B> for Collect {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let value = param.val();
        self.store.put(self.path.dotted(), value.dims(), values(value));
    }
}

struct Fill {
    path: ModulePath,
    store: Store,
    error: Option<StoreError>,
}

impl<B: Backend> ModuleMapper<B> for Fill {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let name = self.path.dotted();
        let (expected, device) = (param.dims(), param.device());
        match self.store.take::<f32>(&name) {
            Ok((shape, values)) if shape == expected => param.map(|old| {
                Tensor::from_data(TensorData::new(values, shape), &device).set_require_grad(old.is_require_grad())
            }),
            Ok((shape, _)) => {
                let problem = format!("has shape {shape:?} where the model has {expected:?}");
                self.error.get_or_insert(StoreError::Array { name, problem });
                param
            }
            Err(error) => {
                self.error.get_or_insert(error);
                param
            }
        }
    }
}

struct Refresh<'a> {
    path: ModulePath,
    parameters: &'a Parameters,
}

impl<B: Backend> ModuleMapper<B> for Refresh<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let numbers = self.parameters.values()[self.parameters.of_module(&self.path).range.clone()].to_vec();
        let (shape, device) = (param.dims(), param.device());
        param.map(|old| {
            Tensor::from_data(TensorData::new(numbers, shape), &device).set_require_grad(old.is_require_grad())
        })
    }
}

/// A tensor's values on the host, in row-major order.
pub fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor
        .into_data()
        .convert::<f32>()
        .into_vec()
        .unwrap_or_else(|error| unreachable!("f32 data was asked for: {error:?}"))
}
