//! The parameters of a program: declared by its operations, laid out by name in one array.

use std::ops::Range;

use tempograph_framework::{Draw, Parameters, Purpose, Store};
use tempograph_kernels::cpu::{LinearWeights, Precision};

/// A declared parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param(u32);

impl Param {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A declared linear map, `y = x Wᵀ + b`, `W` `[outputs, inputs]` as in PyTorch.
#[derive(Clone, Copy, Debug)]
pub struct Map {
    /// `NAME.weight`, `[outputs, inputs]`.
    pub weight: Param,
    /// `NAME.bias`, `[outputs]`.
    pub bias: Option<Param>,
    /// Columns it reads.
    pub inputs: usize,
    /// Columns it gives.
    pub outputs: usize,
}

impl Map {
    /// Its parameters.
    pub fn params(&self) -> impl Iterator<Item = Param> {
        std::iter::once(self.weight).chain(self.bias)
    }
}

/// How a parameter is initialised.
#[derive(Clone, Debug)]
enum Initialiser {
    /// Uniform in ± this bound.
    Uniform(f32),
    /// These numbers.
    Values(Vec<f32>),
}

#[derive(Clone, Debug)]
struct Declared {
    name: String,
    shape: Vec<usize>,
    initialiser: Initialiser,
    /// Drawn after all others, so that an optional part changes no other parameter.
    late: bool,
    /// Whether several operations add to its gradient.
    shared: bool,
}

/// The parameters that operations declare.
///
/// Initial numbers are drawn in the order of declaration, each parameter from its own number. Parameters of optional
/// parts are [declared so](Self::drawn_last) and drawn after all others. Names are dotted paths. A name says what a
/// parameter is for and not where its operation is in the list, so checkpoints outlive a change of the list.
#[derive(Clone, Debug, Default)]
pub struct Declarations {
    all: Vec<Declared>,
    late: bool,
    shared: bool,
}

impl Declarations {
    fn declare(&mut self, name: &str, shape: &[usize], initialiser: Initialiser) -> Param {
        let (late, shared) = (self.late, self.shared);
        self.all.push(Declared { name: name.into(), shape: shape.to_vec(), initialiser, late, shared });
        Param(self.all.len() as u32 - 1)
    }

    /// A parameter that is initialised uniformly in ± `bound`.
    pub fn uniform(&mut self, name: &str, shape: &[usize], bound: f32) -> Param {
        self.declare(name, shape, Initialiser::Uniform(bound))
    }

    /// A parameter that is initialised to `values`, row-major.
    pub fn values(&mut self, name: &str, shape: &[usize], values: Vec<f32>) -> Param {
        self.declare(name, shape, Initialiser::Values(values))
    }

    /// A linear map that is initialised as in PyTorch: weight and bias uniform in ±1/√inputs.
    pub fn linear(&mut self, name: &str, inputs: usize, outputs: usize, bias: bool) -> Map {
        let bound = 1.0 / (inputs.max(1) as f32).sqrt();
        let weight = self.uniform(&format!("{name}.weight"), &[outputs, inputs], bound);
        let bias = bias.then(|| self.uniform(&format!("{name}.bias"), &[outputs], bound));
        Map { weight, bias, inputs, outputs }
    }

    /// Weight and bias of a layer norm of `width` columns: ones and zeros, `NAME.weight` and `NAME.bias`.
    pub fn norm(&mut self, name: &str, width: usize) -> [Param; 2] {
        [("weight", 1.0), ("bias", 0.0)]
            .map(|(part, number)| self.values(&format!("{name}.{part}"), &[width], vec![number; width]))
    }

    /// Declares parameters that are drawn after all others.
    pub fn drawn_last<T>(&mut self, declare: impl FnOnce(&mut Self) -> T) -> T {
        self.late = true;
        let declared = declare(self);
        self.late = false;
        declared
    }

    /// Declares parameters that several operations use. Each operation adds to their gradients.
    pub fn shared<T>(&mut self, declare: impl FnOnce(&mut Self) -> T) -> T {
        self.shared = true;
        let declared = declare(self);
        self.shared = false;
        declared
    }

    /// Number of declared parameters.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether no parameter is declared.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Name and shape of a parameter.
    pub fn describe(&self, Param(i): Param) -> (&str, &[usize]) {
        let Declared { name, shape, .. } = &self.all[i as usize];
        (name, shape)
    }

    /// The parameters in the order of declaration.
    pub fn params(&self) -> impl Iterator<Item = Param> + use<> {
        (0..self.all.len() as u32).map(Param)
    }

    /// The parameters whose gradients several operations add to.
    pub fn shared_params(&self) -> impl Iterator<Item = Param> {
        self.params().zip(&self.all).filter(|(_, declared)| declared.shared).map(|(param, _)| param)
    }

    /// Total number of learned numbers.
    pub fn numbers(&self) -> usize {
        self.all.iter().map(|declared| declared.shape.iter().product::<usize>()).sum()
    }

    /// A name that two parameters share, if any.
    pub(crate) fn repeated(&self) -> Option<&str> {
        let mut names: Vec<&str> = self.all.iter().map(|declared| declared.name.as_str()).collect();
        names.sort_unstable();
        names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
    }

    /// Initial parameters, drawn from `seed`.
    pub fn initial_parameters(&self, seed: u64) -> Parameters {
        let draw = Draw::new(seed).of(Purpose::Init);
        let (early, late): (Vec<&Declared>, Vec<&Declared>) = self.all.iter().partition(|declared| !declared.late);
        let (mut store, mut next) = (Store::default(), 0);
        for Declared { name, shape, initialiser, .. } in early.into_iter().chain(late) {
            let values = match initialiser {
                Initialiser::Values(values) => values.clone(),
                Initialiser::Uniform(bound) => {
                    let mut chance = draw.at(next, 0);
                    next += 1;
                    (0..shape.iter().product()).map(|_| (2.0 * chance.uniform() - 1.0) * bound).collect()
                }
            };
            store.put(name.clone(), shape.clone(), values);
        }
        Parameters::from_store(store).unwrap_or_else(|error| unreachable!("parameters are floats: {error}"))
    }

    /// The range of each parameter in the array of [`initial_parameters`](Self::initial_parameters).
    pub fn layout(&self) -> ParameterLayout {
        let mut order: Vec<usize> = (0..self.all.len()).collect();
        order.sort_unstable_by(|&a, &b| self.all[a].name.cmp(&self.all[b].name));
        let (mut layout, mut start) = (vec![0..0; self.all.len()], 0);
        for i in order {
            let end = start + self.all[i].shape.iter().product::<usize>();
            layout[i] = start..end;
            start = end;
        }
        ParameterLayout(layout)
    }
}

/// The range of each parameter in the one array.
#[derive(Clone, Debug, Default)]
pub struct ParameterLayout(Vec<Range<usize>>);

impl ParameterLayout {
    /// The range of a parameter.
    pub fn of(&self, Param(i): Param) -> Range<usize> {
        self.0[i as usize].clone()
    }
}

/// The numbers of all parameters, and the precision of matrix products.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// The one array.
    pub parameters: &'a Parameters,
    /// The range of each parameter in it.
    pub layout: &'a ParameterLayout,
    /// Precision of matrix products.
    pub precision: Precision,
}

impl<'a> Weights<'a> {
    /// The numbers of a parameter.
    pub fn values(self, param: Param) -> &'a [f32] {
        &self.parameters.values()[self.layout.of(param)]
    }

    /// The numbers of a linear map.
    pub fn linear(self, map: &Map) -> LinearWeights<'a> {
        LinearWeights {
            weight: self.values(map.weight),
            bias: map.bias.map(|bias| self.values(bias)),
            version: self.parameters.version(),
            precision: self.precision,
        }
    }
}

/// The gradients of all parameters, in their order.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// The one array.
    pub values: &'a mut [f32],
    /// The range of each parameter in it.
    pub layout: &'a ParameterLayout,
}

impl Gradients<'_> {
    /// The gradient of one parameter.
    pub fn param_mut(&mut self, param: Param) -> &mut [f32] {
        &mut self.values[self.layout.of(param)]
    }

    /// The gradients of several parameters at once.
    pub fn params_mut<const N: usize>(&mut self, params: [Param; N]) -> [&mut [f32]; N] {
        self.ranges(params.map(|param| self.layout.of(param)))
    }

    /// The gradients of weight and bias of a linear map; that of a missing bias is empty.
    pub fn map(&mut self, map: &Map) -> [&mut [f32]; 2] {
        self.ranges([self.layout.of(map.weight), self.bias(map)])
    }

    /// The gradients of weights and biases of two linear maps.
    pub fn maps(&mut self, [one, other]: [&Map; 2]) -> [[&mut [f32]; 2]; 2] {
        let layout = [self.layout.of(one.weight), self.bias(one), self.layout.of(other.weight), self.bias(other)];
        let [weight, bias, weight_of_other, bias_of_other] = self.ranges(layout);
        [[weight, bias], [weight_of_other, bias_of_other]]
    }

    /// Sets some gradients to zero.
    pub fn zero(&mut self, params: impl IntoIterator<Item = Param>) {
        params.into_iter().for_each(|param| self.param_mut(param).fill(0.0));
    }

    fn bias(&self, map: &Map) -> Range<usize> {
        map.bias.map_or(0..0, |bias| self.layout.of(bias))
    }

    fn ranges<const N: usize>(&mut self, layout: [Range<usize>; N]) -> [&mut [f32]; N] {
        self.values.get_disjoint_mut(layout).unwrap_or_else(|error| unreachable!("parameters do not overlap: {error}"))
    }
}
