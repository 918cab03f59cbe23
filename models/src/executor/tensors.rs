//! Runs programs on tensors of any backend of Burn, with or without its tape. It is the oracle of the other executors.

use std::any::Any;
use std::sync::Arc;

use burn::module::{AutodiffModule, HasAutodiffModule, Module, ModuleMapper, ModuleVisitor, Param as BurnParam};
use tempograph_framework::{Forward, Model, Needs, Queries, Update, View, values};
use tempograph_kernels::tensor::{AutodiffBackend, Backend, Cpu, CpuTape, Tensor, TensorData};
use tempograph_kernels::{TemporalOps, gather_rows};

use crate::executor::dispatch::on_tensors;
use crate::executor::update::{write_mail, write_memories};
use crate::operation::{Operation, Param, Slot, Step, TensorContext, TensorParameters, Value};
use crate::ops::pairs::head::Head;
use crate::program::Program;

/// A program as a module of Burn. Its parameters are tensors with dotted names, so Burn's visitors, mappers, records
/// and optimisers can use them.
#[derive(Clone, Debug)]
pub struct ProgramModule<B: Backend> {
    program: Arc<Program>,
    /// Names and parameters, sorted by name.
    order: Vec<(String, Param)>,
    pub(super) parameters: TensorParameters<B>,
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
        ProgramModule { program, order, parameters: TensorParameters { slots, vectors, matrices } }
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
        let (program, slots, order) = (self.program.clone(), self.parameters.slots.clone(), self.order.clone());
        ProgramModule { program, order, parameters: TensorParameters { slots, vectors, matrices } }
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
        self.parameters.matrices.collect_devices(self.parameters.vectors.collect_devices(devices))
    }

    fn fork(self, device: &B::Device) -> Self {
        let (vectors, matrices) =
            (self.parameters.vectors.clone().fork(device), self.parameters.matrices.clone().fork(device));
        self.with(vectors, matrices)
    }

    fn to_device(self, device: &B::Device) -> Self {
        let (vectors, matrices) =
            (self.parameters.vectors.clone().to_device(device), self.parameters.matrices.clone().to_device(device));
        self.with(vectors, matrices)
    }

    fn visit<V: ModuleVisitor<B>>(&self, visitor: &mut V) {
        for (name, param) in &self.order {
            match self.parameters.slot(*param) {
                Slot::Vector(i) => at_path!(visitor, name, self.parameters.vectors[i].visit(visitor)),
                Slot::Matrix(i) => at_path!(visitor, name, self.parameters.matrices[i].visit(visitor)),
            }
        }
    }

    fn map<M: ModuleMapper<B>>(mut self, mapper: &mut M) -> Self {
        for (name, param) in &self.order {
            match self.parameters.slot(*param) {
                Slot::Vector(i) => {
                    self.parameters.vectors[i] =
                        at_path!(mapper, name, Module::<B>::map(self.parameters.vectors[i].clone(), mapper));
                }
                Slot::Matrix(i) => {
                    self.parameters.matrices[i] =
                        at_path!(mapper, name, Module::<B>::map(self.parameters.matrices[i].clone(), mapper));
                }
            }
        }
        self
    }

    fn load_record(self, (vectors, matrices): Self::Record) -> Self {
        let (vectors, matrices) = (
            self.parameters.vectors.clone().load_record(vectors),
            self.parameters.matrices.clone().load_record(matrices),
        );
        self.with(vectors, matrices)
    }

    fn into_record(self) -> Self::Record {
        (self.parameters.vectors.into_record(), self.parameters.matrices.into_record())
    }
}

impl<B: AutodiffBackend> AutodiffModule<B> for ProgramModule<B> {
    type InnerModule = ProgramModule<B::InnerBackend>;

    fn valid(&self) -> Self::InnerModule {
        self.with(self.parameters.vectors.valid(), self.parameters.matrices.valid())
    }

    fn from_inner(module: Self::InnerModule) -> Self {
        let (vectors, matrices) = (module.parameters.vectors.clone(), module.parameters.matrices.clone());
        module.with(AutodiffModule::from_inner(vectors), AutodiffModule::from_inner(matrices))
    }
}

impl<B: AutodiffBackend> HasAutodiffModule<B> for ProgramModule<B::InnerBackend> {
    type TrainModule = ProgramModule<B>;
}

impl<B: TemporalOps> ProgramModule<B> {
    /// What its operations read in one pass.
    pub(crate) fn context<'a>(
        &'a self,
        queries: &'a Queries,
        view: &'a View,
        dropout: Option<u64>,
    ) -> TensorContext<'a, B> {
        let device = self.devices().into_iter().next().unwrap_or_default();
        TensorContext::new(&self.parameters, device, (queries, view), dropout)
    }

    /// Runs the steps selected by `wanted`. Returns the tables of the program; `None` for steps that were not run.
    fn run(
        &self,
        queries: &Queries,
        view: &View,
        dropout: Option<u64>,
        wanted: impl Fn(&Step) -> bool,
    ) -> Vec<Option<Tensor<B, 2>>> {
        let cx = self.context(queries, view, dropout);
        let mut tables: Vec<Option<Tensor<B, 2>>> = vec![None; self.program.shapes.len()];
        for step in self.program.steps.iter().filter(|step| wanted(step)) {
            let read = |value: &Value| {
                tables[value.index()].clone().unwrap_or_else(|| unreachable!("steps stand in the order they are read"))
            };
            let reads = step.reads.iter().map(read);
            // A step that only an update needs has no gradient, so it must leave nothing on the tape of the others.
            let reads: Vec<Tensor<B, 2>> =
                if step.embeds { reads.collect() } else { reads.map(Tensor::detach).collect() };
            tables[step.gives.index()] = Some(on_tensors(&*step.op, &cx, &reads));
        }
        tables
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
        let mut tables = self.run(queries, view, dropout, |step| step.embeds || step.updates_with(ends));
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
        let cx = self.context(queries, view, dropout);
        let (scores, outputs) = match head {
            Head::Links(decoder) => (decoder.on_tensors(&cx, embeddings.clone(), pairs), None),
            Head::Rows(head) => (Tensor::zeros([0], cx.device()), Some(head.on_tensors(&cx, embeddings.clone()))),
        };
        Forward { scores, outputs, embeddings: Some(gather_rows(embeddings, view.roots.clone())), update }
    }

    fn advance(&self, queries: &Queries, view: &View) -> Update {
        let ends = !queries.ends().is_empty();
        let tables = self.run(queries, view, None, |step| step.updates_with(ends));
        self.update(queries, view, &tables)
    }
}

/// Runs a custom operation, which supports only the CPU's tape.
///
/// # Panics
/// On the tensors of another backend.
pub(super) fn custom<B: TemporalOps>(
    op: &dyn Operation,
    cx: &TensorContext<'_, B>,
    reads: &[Tensor<B, 2>],
) -> Tensor<B, 2> {
    let (parameters, reads): (&dyn Any, Box<dyn Any>) = (cx.parameters(), Box::new(reads.to_vec()));
    let on_tape = |parameters: &TensorParameters<CpuTape>, reads: &[Tensor<CpuTape, 2>]| {
        op.on_tape(&TensorContext::new(parameters, Default::default(), (cx.queries, cx.view), cx.dropout), reads)
    };
    let out: Box<dyn Any> = if let Some(parameters) = parameters.downcast_ref::<TensorParameters<CpuTape>>() {
        Box::new(on_tape(parameters, &of_backend::<Vec<Tensor<CpuTape, 2>>>(reads)))
    } else if let Some(TensorParameters { slots, vectors, matrices }) =
        parameters.downcast_ref::<TensorParameters<Cpu>>()
    {
        let reads = of_backend::<Vec<Tensor<Cpu, 2>>>(reads).into_iter().map(Tensor::from_inner).collect::<Vec<_>>();
        let (vectors, matrices) =
            (AutodiffModule::from_inner(vectors.clone()), AutodiffModule::from_inner(matrices.clone()));
        Box::new(on_tape(&TensorParameters { slots: slots.clone(), vectors, matrices }, &reads).inner())
    } else {
        panic!("{} has no form for {}", op.describe(), std::any::type_name::<B>())
    };
    of_backend(out)
}

/// Casts tensors to `T`. The caller has checked that both are of one backend.
fn of_backend<T: 'static>(tensors: Box<dyn Any>) -> T {
    *tensors.downcast().unwrap_or_else(|_| unreachable!("parameters and tensors are of one backend"))
}
