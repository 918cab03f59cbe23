//! What operations on tensors of Burn read.

use burn::module::Param as BurnParam;
use tempograph_framework::{Queries, View};
use tempograph_kernels::tensor::{Backend, Tensor, TensorData};
use tempograph_kernels::{Rows, TemporalOps, product};

use crate::operation::{Map, Param};

/// Index of a parameter among the tensors of its rank.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slot {
    Vector(usize),
    Matrix(usize),
}

/// The parameters of a program as tensors.
#[derive(Clone, Debug)]
pub(crate) struct TensorParameters<B: Backend> {
    /// In the order of declaration.
    pub slots: Vec<Slot>,
    pub vectors: Vec<BurnParam<Tensor<B, 1>>>,
    pub matrices: Vec<BurnParam<Tensor<B, 2>>>,
}

impl<B: Backend> TensorParameters<B> {
    pub fn slot(&self, param: Param) -> Slot {
        self.slots[param.index()]
    }
}

/// What an operation reads on tensors besides tables.
#[derive(Debug)]
pub struct TensorContext<'a, B: Backend> {
    /// The queried pairs.
    pub queries: &'a Queries,
    /// The past of the queries.
    pub view: &'a View,
    /// Seed of the dropout of a training step. `None`: nothing is dropped.
    pub dropout: Option<u64>,
    parameters: &'a TensorParameters<B>,
    device: B::Device,
}

impl<'a, B: TemporalOps> TensorContext<'a, B> {
    /// These parameters on `device`, for one pass.
    pub(crate) fn new(
        parameters: &'a TensorParameters<B>,
        device: B::Device,
        (queries, view): (&'a Queries, &'a View),
        dropout: Option<u64>,
    ) -> TensorContext<'a, B> {
        TensorContext { queries, view, dropout, parameters, device }
    }

    /// Both ends of each pair, `[P]`: rows of the roots' table, as in [`Context::pairs`](crate::Context::pairs).
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = [u32; 2]> + Clone + '_ {
        self.view.pair_rows(self.queries)
    }

    /// All parameters.
    pub(crate) fn parameters(&self) -> &'a TensorParameters<B> {
        self.parameters
    }

    /// The device of its tensors.
    pub fn device(&self) -> &B::Device {
        &self.device
    }

    /// A parameter of one axis.
    ///
    /// # Panics
    /// If it has two.
    pub fn vector(&self, param: Param) -> Tensor<B, 1> {
        match self.parameters.slot(param) {
            Slot::Vector(i) => self.parameters.vectors[i].val(),
            Slot::Matrix(_) => panic!("the parameter is a matrix"),
        }
    }

    /// A parameter of two axes.
    ///
    /// # Panics
    /// If it has one.
    pub fn matrix(&self, param: Param) -> Tensor<B, 2> {
        match self.parameters.slot(param) {
            Slot::Matrix(i) => self.parameters.matrices[i].val(),
            Slot::Vector(_) => panic!("the parameter is a vector"),
        }
    }

    /// `[n, inputs] -> [n, outputs]`.
    pub fn linear(&self, map: &Map, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let y = product(x, self.matrix(map.weight).transpose());
        match map.bias {
            Some(bias) => y + self.vector(bias).unsqueeze(),
            None => y,
        }
    }

    /// `[outputs, inputs + 1]`: the bias as a last column, zero where there is none.
    pub fn augmented(&self, map: &Map) -> Tensor<B, 2> {
        let weight = self.matrix(map.weight);
        let column = match map.bias {
            Some(bias) => self.vector(bias).reshape([map.outputs, 1]),
            None => Tensor::zeros([map.outputs, 1], &self.device),
        };
        Tensor::cat(vec![weight, column], 1)
    }

    /// Numbers as a matrix.
    pub fn from_rows(&self, values: Vec<f32>, shape: [usize; 2]) -> Tensor<B, 2> {
        Tensor::from_data(TensorData::new(values, shape), &self.device)
    }

    /// Constant rows gathered into a matrix, `[ids, width]`.
    pub fn constant_rows(&self, rows: &dyn Rows, ids: impl Iterator<Item = u64>) -> Tensor<B, 2> {
        let mut values = Vec::new();
        ids.for_each(|id| values.extend_from_slice(rows.row(id)));
        let count = values.len() / rows.width().max(1);
        self.from_rows(values, [count, rows.width()])
    }
}
