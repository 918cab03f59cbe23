//! The constant inputs of pair scores.

/// Pairs of a row of one table and a row of another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairPlan {
    /// `[P]` rows of the first table.
    pub i: Vec<u32>,
    /// `[P]` rows of the second table.
    pub j: Vec<u32>,
}

impl PairPlan {
    /// Panics if the arrays do not fit together: such a plan is a bug of its caller.
    pub(crate) fn check(&self, a: usize, b: usize) {
        assert_eq!(self.i.len(), self.j.len(), "a pair has one row of each table");
        assert!(
            self.i.iter().all(|&row| (row as usize) < a),
            "a pair names a row of the first table that is not below {a}"
        );
        assert!(
            self.j.iter().all(|&row| (row as usize) < b),
            "a pair names a row of the second table that is not below {b}"
        );
    }
}
