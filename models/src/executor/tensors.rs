//! Runs programs on tensors of any backend of Burn, with or without its tape. It is the oracle of the other executors.

use std::any::Any;
use std::sync::Arc;

use burn::module::{AutodiffModule, HasAutodiffModule, Module, ModuleMapper, ModuleVisitor, Param as BurnParam};
use tempograph_framework::{Forward, Model, Needs, Queries, Update, View, values};
use tempograph_kernels::tensor::{AutodiffBackend, Backend, Cpu, CpuTape, Tensor, TensorData};
use tempograph_kernels::{Rows, TemporalOps, gather_rows, product};

use crate::executor::update::{write_mail, write_memories};
use crate::operation::Operation;
use crate::ops::Head;
use crate::program::{Map, Param, Program, Step, Value};

/// Index of a parameter among the tensors of its rank.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Vector(usize),
    Matrix(usize),
}

/// A program as a module of Burn. Its parameters are tensors with dotted names, so Burn's visitors, mappers, records
/// and optimisers can use them.
#[derive(Clone, Debug)]
pub struct ProgramModule<B: Backend> {
    program: Arc<Program>,
    /// In the order of declaration.
    slots: Vec<Slot>,
    /// Names and parameters, sorted by name.
    order: Vec<(String, Param)>,
    vectors: Vec<BurnParam<Tensor<B, 1>>>,
    matrices: Vec<BurnParam<Tensor<B, 2>>>,
}

impl<B: Backend> ProgramModule<B> {
    /// `program` with initial parameters, drawn from `seed`: the same numbers as in
    /// [`SliceProgram`](crate::SliceProgram).
    pub fn new(program: Arc<Program>, seed: u64, device: &B::Device) -> ProgramModule<B> {
        let (fresh, layout, declared) =
            (program.declarations.initial_parameters(seed), &program.layout, &program.declarations);
        let (mut slots, mut order, mut vectors, mut matrices) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for param in declared.params() {
            let (name, shape) = declared.describe(param);
            order.push((name.to_string(), param));
            let data = TensorData::new(fresh.values()[layout.of(param)].to_vec(), shape.to_vec());
            if shape.len() == 1 {
                slots.push(Slot::Vector(vectors.len()));
                vectors.push(BurnParam::from_data(data, device));
            } else {
                slots.push(Slot::Matrix(matrices.len()));
                matrices.push(BurnParam::from_data(data, device));
            }
        }
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        ProgramModule { program, slots, order, vectors, matrices }
    }

    /// The program.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// The same program with other tensors.
    fn with<C: Backend>(
        &self,
        vectors: Vec<BurnParam<Tensor<C, 1>>>,
        matrices: Vec<BurnParam<Tensor<C, 2>>>,
    ) -> ProgramModule<C> {
        let (program, slots, order) = (self.program.clone(), self.slots.clone(), self.order.clone());
        ProgramModule { program, slots, order, vectors, matrices }
    }

    fn slot(&self, param: Param) -> Slot {
        self.slots[param.index()]
    }
}

/// Enters and leaves the parts of a dotted name around `visit`.
macro_rules! at_path {
    ($visitor:expr, $name:expr, $visit:expr) => {{
        $name.split('.').for_each(|part| $visitor.enter_module(part, "Struct:Program"));
        let visited = $visit;
        $name.rsplit('.').for_each(|part| $visitor.exit_module(part, "Struct:Program"));
        visited
    }};
}

impl<B: Backend> Module<B> for ProgramModule<B> {
    type Record =
        (<Vec<BurnParam<Tensor<B, 1>>> as Module<B>>::Record, <Vec<BurnParam<Tensor<B, 2>>> as Module<B>>::Record);

    fn collect_devices(&self, devices: Vec<B::Device>) -> Vec<B::Device> {
        self.matrices.collect_devices(self.vectors.collect_devices(devices))
    }

    fn fork(self, device: &B::Device) -> Self {
        let (vectors, matrices) = (self.vectors.clone().fork(device), self.matrices.clone().fork(device));
        self.with(vectors, matrices)
    }

    fn to_device(self, device: &B::Device) -> Self {
        let (vectors, matrices) = (self.vectors.clone().to_device(device), self.matrices.clone().to_device(device));
        self.with(vectors, matrices)
    }

    fn visit<V: ModuleVisitor<B>>(&self, visitor: &mut V) {
        for (name, param) in &self.order {
            match self.slot(*param) {
                Slot::Vector(i) => at_path!(visitor, name, self.vectors[i].visit(visitor)),
                Slot::Matrix(i) => at_path!(visitor, name, self.matrices[i].visit(visitor)),
            }
        }
    }

    fn map<M: ModuleMapper<B>>(mut self, mapper: &mut M) -> Self {
        for (name, param) in &self.order {
            match self.slots[param.index()] {
                Slot::Vector(i) => {
                    self.vectors[i] = at_path!(mapper, name, Module::<B>::map(self.vectors[i].clone(), mapper));
                }
                Slot::Matrix(i) => {
                    self.matrices[i] = at_path!(mapper, name, Module::<B>::map(self.matrices[i].clone(), mapper));
                }
            }
        }
        self
    }

    fn load_record(self, (vectors, matrices): Self::Record) -> Self {
        let (vectors, matrices) =
            (self.vectors.clone().load_record(vectors), self.matrices.clone().load_record(matrices));
        self.with(vectors, matrices)
    }

    fn into_record(self) -> Self::Record {
        (self.vectors.into_record(), self.matrices.into_record())
    }
}

impl<B: AutodiffBackend> AutodiffModule<B> for ProgramModule<B> {
    type InnerModule = ProgramModule<B::InnerBackend>;

    fn valid(&self) -> Self::InnerModule {
        self.with(self.vectors.valid(), self.matrices.valid())
    }

    fn from_inner(module: Self::InnerModule) -> Self {
        let (vectors, matrices) = (module.vectors.clone(), module.matrices.clone());
        module.with(AutodiffModule::from_inner(vectors), AutodiffModule::from_inner(matrices))
    }
}

impl<B: AutodiffBackend> HasAutodiffModule<B> for ProgramModule<B::InnerBackend> {
    type TrainModule = ProgramModule<B>;
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
    module: &'a ProgramModule<B>,
    device: B::Device,
}

impl<'a, B: TemporalOps> TensorContext<'a, B> {
    /// The parameters of `module`, without dropout.
    pub(crate) fn new(module: &'a ProgramModule<B>, queries: &'a Queries, view: &'a View) -> TensorContext<'a, B> {
        let device = module.devices().into_iter().next().unwrap_or_default();
        TensorContext { queries, view, dropout: None, module, device }
    }

    /// Both ends of each pair, `[P]`: rows of the roots' table, as in [`Context::pairs`](crate::Context::pairs).
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = [u32; 2]> + Clone + '_ {
        self.view.pair_rows(self.queries)
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
        match self.module.slot(param) {
            Slot::Vector(i) => self.module.vectors[i].val(),
            Slot::Matrix(_) => panic!("the parameter is a matrix"),
        }
    }

    /// A parameter of two axes.
    ///
    /// # Panics
    /// If it has one.
    pub fn matrix(&self, param: Param) -> Tensor<B, 2> {
        match self.module.slot(param) {
            Slot::Matrix(i) => self.module.matrices[i].val(),
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

    /// Runs a custom operation, which supports only the CPU's tape.
    ///
    /// # Panics
    /// On the tensors of another backend.
    pub(crate) fn custom(&self, op: &dyn Operation, reads: &[Tensor<B, 2>]) -> Tensor<B, 2> {
        let (module, reads): (&dyn Any, Box<dyn Any>) = (self.module, Box::new(reads.to_vec()));
        let on_tape = |module: &ProgramModule<CpuTape>, reads: &[Tensor<CpuTape, 2>]| {
            let TensorContext { queries, view, dropout, .. } = *self;
            op.on_tape(&TensorContext { queries, view, dropout, module, device: Default::default() }, reads)
        };
        let out: Box<dyn Any> = if let Some(module) = module.downcast_ref::<ProgramModule<CpuTape>>() {
            Box::new(on_tape(module, &of_backend::<Vec<Tensor<CpuTape, 2>>>(reads)))
        } else if let Some(module) = module.downcast_ref::<ProgramModule<Cpu>>() {
            let reads =
                of_backend::<Vec<Tensor<Cpu, 2>>>(reads).into_iter().map(Tensor::from_inner).collect::<Vec<_>>();
            Box::new(on_tape(&AutodiffModule::from_inner(module.clone()), &reads).inner())
        } else {
            panic!("{} has no form for {}", op.describe(), std::any::type_name::<B>())
        };
        of_backend(out)
    }
}

/// Casts tensors to `T`. The caller has checked that both are of one backend.
fn of_backend<T: 'static>(tensors: Box<dyn Any>) -> T {
    *tensors.downcast().unwrap_or_else(|_| unreachable!("module and tensors are of one backend"))
}

impl<B: TemporalOps> ProgramModule<B> {
    /// Runs the steps selected by `wanted`. Returns the tables of the program; `None` for steps that were not run.
    fn run(
        &self,
        queries: &Queries,
        view: &View,
        dropout: Option<u64>,
        wanted: impl Fn(&Step) -> bool,
    ) -> (Vec<Option<Tensor<B, 2>>>, B::Device) {
        let cx = TensorContext { dropout, ..TensorContext::new(self, queries, view) };
        let mut tables: Vec<Option<Tensor<B, 2>>> = vec![None; self.program.shapes.len()];
        for step in self.program.steps.iter().filter(|step| wanted(step)) {
            let read = |value: &Value| {
                tables[value.index()].clone().unwrap_or_else(|| unreachable!("steps stand in the order they are read"))
            };
            let reads = step.reads.iter().map(read);
            // A step that only an update needs has no gradient, so it must leave nothing on the tape of the others.
            let reads: Vec<Tensor<B, 2>> =
                if step.embeds { reads.collect() } else { reads.map(Tensor::detach).collect() };
            tables[step.gives.index()] = Some(step.op.on_tensors(&cx, &reads));
        }
        (tables, cx.device)
    }

    /// The update of the batch, from these tables.
    fn update(&self, queries: &Queries, view: &View, tables: &[Option<Tensor<B, 2>>]) -> Update {
        let program = &*self.program;
        let table = |value: Value| tables[value.index()].clone().map(values).unwrap_or_default();
        let mut update = Update::default();
        match program.memory {
            Some(memory) if !program.updates_nodes() => {
                let (rows, width) = (table(memory), program.shape(memory).width);
                let row = |row| &rows[row * width..][..width];
                write_memories(queries, view, row, &mut Vec::new(), &mut update);
            }
            memory => {
                (update.nodes, update.memory) = (view.nodes.clone(), memory.map(table).unwrap_or_default());
            }
        }
        if let Some(says) = program.mail_payload {
            let (rows, width) = (table(says.value), program.shape(says.value).width);
            write_mail(says, queries, view, |row| &rows[row * width..][..width], &mut update.mail);
        }
        update
    }
}

impl<B: TemporalOps> Model<B> for ProgramModule<B> {
    fn needs(&self) -> Needs {
        self.program.needs.clone()
    }

    fn forward(&self, queries: &Queries, view: &View, dropout: Option<u64>) -> Forward<B> {
        let ends = !queries.ends().is_empty();
        let (mut tables, device) = self.run(queries, view, dropout, |step| step.embeds || step.updates_with(ends));
        let dropped =
            dropout.is_some() && self.program.steps.iter().any(|step| step.updates_with(ends) && step.has_dropout);
        let update = match dropped {
            true => self.advance(queries, view),
            false => self.update(queries, view, &tables),
        };
        let mut table = |value: Value| {
            tables[value.index()].take().unwrap_or_else(|| unreachable!("a forward pass runs what the decoder reads"))
        };
        let head = &self.program.head;
        let (embeddings, pairs) = (table(self.program.embedding), head.pairs().map(table));
        let cx = TensorContext { queries, view, dropout, module: self, device };
        let (scores, outputs) = match head {
            Head::Links(decoder) => (decoder.on_tensors(&cx, embeddings.clone(), pairs), None),
            Head::Rows(head) => (Tensor::zeros([0], cx.device()), Some(head.on_tensors(&cx, embeddings.clone()))),
        };
        Forward { scores, outputs, embeddings: Some(gather_rows(embeddings, view.roots.clone())), update }
    }

    fn advance(&self, queries: &Queries, view: &View) -> Update {
        let ends = !queries.ends().is_empty();
        let (tables, _) = self.run(queries, view, None, |step| step.updates_with(ends));
        self.update(queries, view, &tables)
    }
}
