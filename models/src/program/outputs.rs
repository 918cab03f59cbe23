//! What a program gives, and the checks that close its recording.

use serde::{Deserialize, Serialize};
use tempograph_framework::MailContent;

use crate::operation::{Axis, Builder, Shape, Value};
use crate::ops::pairs::head::Head;
use crate::program::{ModelSpec, Program};

/// The outputs of a program.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// New memories, `[U, D]`, or `[C, D]` if a node's new memory is its row at its last event; `None` for a model
    /// without memory.
    pub memory: Option<Value>,
    /// Embeddings of the roots, `[C, O]`.
    pub embedding: Value,
    /// Scores pairs of embeddings, or gives numbers for each embedding.
    pub decoder: Head,
    /// What mail carries if the model makes it; `None` if mail carries memories.
    pub mail_payload: Option<MailPayload>,
}

/// What mail carries if the model makes it: rows of the batch's ends, made without dropout.
#[derive(Clone, Copy, Debug)]
pub struct MailPayload {
    /// Rows of the roots.
    pub value: Value,
    /// Which rows a mail carries.
    pub rows: MailRows,
    /// Whether the features of the event are appended. Needed if mails are averaged: features that are read from an
    /// event later are not in the mean.
    pub features: bool,
}

/// Which rows of an event's ends its mail to one end carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MailRows {
    /// The row of the other end.
    Other,
    /// The receiver's own row, then that of the other end.
    Both,
    /// The sum of both rows.
    Sum,
}

#[cfg(feature = "cube")]
impl From<MailRows> for tempograph_kernels::cube::MailRows {
    fn from(rows: MailRows) -> Self {
        match rows {
            MailRows::Other => Self::Other,
            MailRows::Both => Self::Both,
            MailRows::Sum => Self::Sum,
        }
    }
}

impl MailRows {
    /// Columns of a mail's payload, for rows of `width` columns.
    pub fn columns(self, width: usize) -> usize {
        if self == MailRows::Both { 2 * width } else { width }
    }
}

/// Closes the recording of `spec`'s program.
///
/// # Errors
/// The first mismatch, in a sentence.
pub(super) fn finish(mut builder: Builder, spec: ModelSpec, outputs: Outputs) -> Result<Program, String> {
    let Outputs { memory, embedding, decoder: head, mail_payload: says } = outputs;
    let top = builder.shapes[embedding.index()];
    builder.check(top.axis == Axis::Centres(0), || format!("embeddings are rows of the roots, not of {}", top.axis));
    if let Some(input) = head.input() {
        builder
            .check(input == top.width, || format!("the decoder reads {input} columns of embeddings of {}", top.width));
    }
    if let Some(axis) = head.pairs().map(|pairs| builder.axis(pairs)) {
        builder.check(axis == Axis::Pairs, || format!("the decoder reads rows of pairs, and was given rows of {axis}"));
    }
    if let Some(axis) = memory.map(|memory| builder.axis(memory)) {
        let fits = matches!(axis, Axis::Nodes | Axis::Centres(0));
        builder.check(fits, || format!("memories are rows of nodes or of the roots, not of {axis}"));
    }
    let given = says.map(|says| (builder.shapes[says.value.index()], says));
    if let Some((Shape { axis, .. }, _)) = given {
        builder.check(axis == Axis::Centres(0), || format!("mail says rows of the roots, not of {axis}"));
    }
    let features = |says: MailPayload| if says.features { builder.inputs.features.edge } else { 0 };
    let said = given.map(|(Shape { width, .. }, says)| says.rows.columns(width) + features(says));
    let kept = if let MailContent::Given(width) = builder.needs.mail.says { Some(width) } else { None };
    builder.check(builder.needs.memory == 0 || said == kept, || match (said, kept) {
        (Some(said), Some(kept)) => format!("the model gives mail {said} columns to say, and mail has {kept}"),
        (Some(said), None) => format!("the model gives mail {said} columns to say, and mail says memories"),
        _ => "mail says what the model gives, and the model gives nothing".into(),
    });
    let walks = head.links().and_then(|decoder| decoder.pair_features.walks);
    builder.check(walks == builder.needs.walks, || {
        "the program has walks, and its decoder was recorded before them (Builder::walks)".into()
    });
    if let Some(name) = builder.parameters.repeated() {
        let sentence = format!("two parameters are called {name}");
        builder.fail(sentence);
    }
    if let Some(error) = builder.error {
        return Err(error);
    }
    let of_nodes = memory.filter(|memory| builder.shapes[memory.index()].axis == Axis::Nodes);
    builder.needs.ends = says.is_some() || memory != of_nodes;
    builder.mark(memory.into_iter().chain(says.map(|says| says.value)), |step| &mut step.updates);
    builder.mark(of_nodes, |step| &mut step.updates_nodes);
    builder.mark([embedding].into_iter().chain(head.pairs()), |step| &mut step.embeds);
    Ok(Program {
        spec,
        time: builder.time,
        layout: builder.parameters.layout(),
        steps: builder.steps,
        shapes: builder.shapes,
        head,
        memory,
        embedding,
        mail_payload: says,
        needs: builder.needs,
        precision: builder.precision,
        inputs: builder.inputs,
        declarations: builder.parameters,
    })
}
