//! A model on slices that reads everything its needs put into a view, and sends everything they have in mail. It tests
//! all that a history can store, and does not test learning.
//!
//! ```text
//! h_u      = sin(s_u / 2 + sum of its mails: event, time, what they say)                    what observing writes
//! z_i      = cos(h_i) + sum of its neighbours j: z_j, event, time                           what mail says of an end
//! p(i, j)  = link_0 z_i z_j + link_1                                                        only the link learns
//! ```

use tempograph_framework::{ForwardOutput, MailContent, MailView, Needs, Parameters, Queries, SliceModel, Store, View};

/// The model.
#[derive(Clone, Debug)]
pub struct ProbeModel {
    needs: Needs,
    parameters: Parameters,
}

/// What a pass over a [`ProbeModel`] works in.
#[derive(Debug, Default)]
pub struct ProbeWork {
    answer: ForwardOutput,
    /// What the first weight counts in each score, `[P]`.
    products: Vec<f32>,
}

impl AsRef<ForwardOutput> for ProbeWork {
    fn as_ref(&self) -> &ForwardOutput {
        &self.answer
    }
}

impl ProbeModel {
    /// A model with these needs, the same each time.
    pub fn new(needs: Needs) -> ProbeModel {
        let mut store = Store::default();
        store.put("link", [2], vec![0.1f32, 0.2]);
        ProbeModel { needs, parameters: Parameters::from_store(store).unwrap() }
    }

    /// Numbers that an end sends in mail, if the model gives them.
    fn given(&self) -> usize {
        if let (MailContent::Given(width), true) = (self.needs.mail.says, self.needs.memory > 0) { width } else { 0 }
    }

    fn read(&self, view: &View, answer: &mut ForwardOutput) {
        let (update, width) = (&mut answer.update, self.needs.memory);
        update.nodes.clone_from(&view.nodes);
        update.memory.clear();
        update.memory.extend_from_slice(view.mail.memory());
        let said = if width > 0 { self.needs.mail.width(width) } else { 0 };
        let number = |event: u64, dt: f32, row: &[f32]| event as f32 * 1e-3 + dt * 1e-2 + row.iter().sum::<f32>() * 0.2;
        let mut read = |row: u32, context: f32| {
            let row = &mut update.memory[row as usize * width..][..width];
            row.iter_mut().enumerate().for_each(|(i, number)| *number = (0.5 * *number + context + i as f32).sin());
        };
        match &view.mail {
            MailView::Last(plan) => plan.rows.iter().enumerate().for_each(|(m, &row)| {
                let context = number(plan.event[m], plan.dt[m], &plan.other[m * said..][..said]);
                read(row, if plan.empty[m] { 0.0 } else { context });
            }),
            MailView::Many(mails) => mails.rows.iter().enumerate().for_each(|(m, &row)| {
                let context = |i: usize| {
                    number(mails.event[i], mails.dt[i] + mails.time[i] as f32, &mails.other[i * said..][..said])
                };
                read(row, (mails.starts[m] as usize..mails.starts[m + 1] as usize).map(context).sum());
            }),
        }
    }

    fn say(&self, ends: impl Iterator<Item = usize>, view: &View, answer: &mut ForwardOutput) {
        let given = self.given();
        let (memory, mail) = (&answer.update.memory, &mut answer.update.mail);
        mail.clear();
        for end in ends {
            let embedded = self.embedding(view, 0, view.roots[end], memory);
            mail.extend((0..given).map(|column| embedded + column as f32));
        }
    }

    /// The embedding of a row of a layer.
    fn embedding(&self, view: &View, layer: usize, row: u32, memory: &[f32]) -> f32 {
        let (row, width) = (row as usize, self.needs.memory);
        let Some(hop) = view.hops.get(layer) else { return memory[row * width..][..width].iter().sum() };
        let found = &hop.neighbours;
        let neighbour = |slot: usize| {
            let own = self.embedding(view, layer + 1, found.row[slot], memory);
            own * 0.3 + found.dt[slot] * 1e-2 + found.event[slot] as f32 * 1e-3
        };
        let own = self.embedding(view, layer + 1, hop.centres[row], memory) + hop.idle.get(row).unwrap_or(&0.0) * 1e-2;
        own.cos() + (0..found.count[row] as usize).map(|slot| neighbour(row * found.k + slot)).sum::<f32>()
    }
}

impl SliceModel for ProbeModel {
    type Work = ProbeWork;

    fn needs(&self) -> Needs {
        self.needs.clone()
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    fn forward(&self, queries: &Queries, view: &View, _: Option<u64>, work: &mut ProbeWork) {
        let ProbeWork { answer, products } = work;
        self.read(view, answer);
        self.say(queries.ends(), view, answer);
        let of = |root: u32| self.embedding(view, 0, view.roots[root as usize], &answer.update.memory);
        products.clear();
        products.extend(queries.pairs().iter().map(|pair| of(pair.src) * of(pair.dst)));
        let link = self.parameters.values();
        answer.scores.clear();
        answer.scores.extend(products.iter().map(|product| link[0] * product + link[1]));
    }

    fn advance(&self, _: &Queries, view: &View, work: &mut ProbeWork) {
        self.read(view, &mut work.answer);
        self.say(0..view.roots.len(), view, &mut work.answer);
    }

    fn backward(&self, _: &Queries, _: &View, scores: &[f32], gradients: &mut [f32], work: &mut ProbeWork) {
        gradients[0] = scores.iter().zip(&work.products).map(|(slope, product)| slope * product).sum();
        gradients[1] = scores.iter().sum();
    }
}
