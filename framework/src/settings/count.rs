//! Numbers of things in sentences.

/// `1 row`, `2 rows`.
pub fn counted(count: impl TryInto<u64>, thing: &str) -> String {
    match count.try_into() {
        Ok(1) => format!("1 {thing}"),
        Ok(count) => format!("{count} {thing}s"),
        Err(_) => format!("many {thing}s"),
    }
}

/// `was` of one, `were` of others.
pub(crate) fn were(count: u64) -> &'static str {
    if count == 1 { "was" } else { "were" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_has_no_s() {
        assert_eq!([0usize, 1, 2].map(|count| counted(count, "row")), ["0 rows", "1 row", "2 rows"]);
        assert_eq!([were(1), were(0)], ["was", "were"]);
    }
}
