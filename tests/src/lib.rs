//! Fixtures shared by the tests that no single crate can keep.
