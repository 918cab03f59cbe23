//! The constant inputs of a memory update.
use crate::Rows;
use std::sync::Arc;

/// The recurrent cell that turns a message and a memory into a new memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cell {
    /// Gated recurrent unit with PyTorch's gate order r, z, n.
    Gru,
    /// `tanh(W_ih m + b_ih + W_hh h + b_hh)`.
    Rnn,
}

impl Cell {
    /// Gates, each as wide as the memory: rows of `w_ih` over `D`.
    pub fn gates(self) -> usize {
        match self {
            Self::Gru => 3,
            Self::Rnn => 1,
        }
    }

    /// Number of leading gates that read the message and the memory only through the sum of their two products.
    pub(crate) fn summed(self) -> usize {
        match self {
            Self::Gru => 2,
            Self::Rnn => 1,
        }
    }
}

/// Constants of one memory update: `U` unique nodes, of which `M` have mail.
#[derive(Clone, Debug, Default)]
pub struct MailPlan {
    /// `U`.
    pub unique: usize,
    /// `[U, D]` stored memory of each unique node.
    pub memory: Vec<f32>,
    /// `[M]` rows that are updated, strictly ascending.
    pub rows: Vec<u32>,
    /// `[M]` true where the message is the zero vector, its time encoding included.
    pub empty: Vec<bool>,
    /// `[M, D]` memory of the other end in the mail, or the mail's payload; ignored if empty.
    pub other: Vec<f32>,
    /// `[M]` key into `features`, ignored where empty.
    pub event: Vec<u64>,
    /// `[M]` time since the node's previous update, ignored where empty.
    pub dt: Vec<f32>,
    /// Edge features, `E` columns. Without them a message has no edge columns.
    pub features: Option<Arc<dyn Rows>>,
}

impl MailPlan {
    /// `E`: columns of the edge features.
    pub fn edge_width(&self) -> usize {
        self.features.as_ref().map_or(0, |features| features.width())
    }

    /// Panics if the arrays do not fit memories and payloads of these widths: such a plan is a bug of its caller.
    pub(crate) fn check(&self, [width, said]: [usize; 2]) {
        let mails = self.rows.len();
        assert_eq!(self.memory.len(), self.unique * width, "memory is not [{}, {width}]", self.unique);
        assert_eq!(self.other.len(), mails * said, "other is not [{mails}, {said}]");
        assert_eq!(
            [self.empty.len(), self.event.len(), self.dt.len()],
            [mails; 3],
            "empty, event and dt are not [{mails}]"
        );
        assert!(self.rows.is_sorted_by(|a, b| a < b), "rows are not strictly ascending");
        assert!(
            self.rows.last().is_none_or(|&last| (last as usize) < self.unique),
            "a row is not below {}",
            self.unique
        );
    }
}
