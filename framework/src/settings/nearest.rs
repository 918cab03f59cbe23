//! The known name that a misspelt one most likely meant.

/// The name in `known` closest to `name`, if it is close enough to be a typing error.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = |candidate: &str| strsim::osa_distance(&name.to_lowercase(), &candidate.to_lowercase());
    let (distance, found) = known.into_iter().map(|candidate| (near(candidate), candidate)).min()?;
    (distance <= 1 + name.chars().count() / 3).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_find_their_name_and_strangers_find_none() {
        let known = ["events", "users", "seed"];
        assert_eq!(nearest("evnets", known), Some("events"));
        assert_eq!(nearest("Seeds", known), Some("seed"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("seed", []), None);
    }
}
