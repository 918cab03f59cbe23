//! The table of public sets: their addresses, files and terms.

use std::fmt::Write;

use crate::fetch::FetchError;

/// The form of a set's download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// The one file as it is.
    Plain,
    /// A zip archive holding all of them.
    Zip,
}

/// One public set: constants only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set {
    /// What `tempograph fetch` calls it.
    pub name: &'static str,
    /// Address of its one download.
    pub url: &'static str,
    /// The form of the download.
    pub packing: Packing,
    /// Files in the folder once fetched; the first is the event list.
    pub files: &'static [&'static str],
    /// Bytes of the download, where known.
    pub size: Option<u64>,
    /// Events, as its authors count them.
    pub events: Option<u64>,
    /// What an event is.
    pub about: &'static str,
    /// What is known of its licence or terms.
    pub terms: &'static str,
    /// The paper its authors ask to cite.
    pub citation: &'static str,
}

impl Set {
    /// The set of that name.
    ///
    /// # Errors
    /// [`FetchError::UnknownSet`], with the nearest name and all of them.
    pub fn find(name: &str) -> Result<&'static Set, FetchError> {
        SETS.iter().find(|set| set.name == name).ok_or_else(|| FetchError::UnknownSet {
            name: name.to_owned(),
            nearest: nearest(name),
            known: SETS.iter().map(|set| set.name).collect::<Vec<_>>().join(", "),
        })
    }

    /// The event list among the set's files: what `prepare` reads.
    pub fn source(&self) -> &'static str {
        self.files[0]
    }

    /// The fixed negatives of validation and of test among the files, where there are some.
    pub fn negatives(&self) -> Option<[&'static str; 2]> {
        let of = |part: &str| self.files.iter().copied().find(|file| file.contains(part));
        Some([of("_val_ns")?, of("_test_ns")?])
    }

    /// The last part of the address: the name of the downloaded file.
    pub fn remote_name(&self) -> &'static str {
        self.url.rsplit('/').next().unwrap_or(self.url)
    }

    /// The address to download from: the set's own, or the same file under `base`.
    pub(super) fn url_from(&self, base: Option<&str>) -> Result<String, FetchError> {
        match base {
            None => Ok(self.url.to_owned()),
            Some(base) if base.starts_with("http://") || base.starts_with("https://") => {
                Ok(format!("{}/{}", base.trim_end_matches('/'), self.remote_name()))
            }
            Some(base) => Err(FetchError::BaseUrl { url: base.to_owned() }),
        }
    }
}

/// The known name most like `name`, if one is similar.
fn nearest(name: &str) -> Option<&'static str> {
    const ALIKE: f64 = 0.7;
    let name = name.to_lowercase();
    SETS.iter()
        .map(|set| (strsim::jaro_winkler(&name, set.name), set.name))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

/// The sets as `tempograph fetch --list` prints them, one a line.
pub(super) fn table() -> String {
    let mut text = format!("{:<15} {:>11}  {}\n", "NAME", "EVENTS", "WHAT");
    for set in SETS {
        let events = set.events.map(|count| count.to_string()).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:<15} {events:>11}  {} ({})", set.name, set.about, set.url);
    }
    text
}

const JODIE_TERMS: &str = "SNAP states no licence for this file; see http://snap.stanford.edu/jodie";
const JODIE: &str =
    "Kumar, Zhang, Leskovec: Predicting Dynamic Embedding Trajectory in Temporal Interaction Networks. KDD 2019.";
const TGB_TERMS: &str = "terms differ by set; see https://tgb.complexdatalab.com";
const TGB: &str = "Huang et al.: Temporal Graph Benchmark for Machine Learning on Temporal Graphs. NeurIPS 2023 Datasets and Benchmarks.";
const DGB: &str =
    "Poursafaei et al.: Towards Better Evaluation for Dynamic Link Prediction. NeurIPS 2022 Datasets and Benchmarks.";

const fn jodie(
    name: &'static str,
    url: &'static str,
    files: &'static [&'static str],
    events: u64,
    about: &'static str,
) -> Set {
    Set {
        name,
        url,
        packing: Packing::Plain,
        files,
        size: None,
        events: Some(events),
        about,
        terms: JODIE_TERMS,
        citation: JODIE,
    }
}

const fn tgb(
    name: &'static str,
    url: &'static str,
    files: &'static [&'static str],
    events: Option<u64>,
    about: &'static str,
) -> Set {
    Set { name, url, packing: Packing::Zip, files, size: None, events, about, terms: TGB_TERMS, citation: TGB }
}

/// The address of a file in TGB's object store.
macro_rules! tgb_store {
    ($file:literal) => {
        concat!("https://object-arbutus.alliancecan.ca/swift/v1/14c95234f6cd4a21a47deafe20cce2a7/tgb/", $file)
    };
}

/// Every set that can be fetched. TGB's addresses and versions are those of its loader, py-tgb 2.3.0.
pub static SETS: &[Set] = &[
    Set {
        size: Some(559_937_473),
        ..jodie(
            "wikipedia",
            "http://snap.stanford.edu/jodie/wikipedia.csv",
            &["wikipedia.csv"],
            157_474,
            "edits of pages by editors, 172 features",
        )
    },
    jodie(
        "reddit",
        "http://snap.stanford.edu/jodie/reddit.csv",
        &["reddit.csv"],
        672_447,
        "posts of users to subreddits, 172 features",
    ),
    jodie(
        "mooc",
        "http://snap.stanford.edu/jodie/mooc.csv",
        &["mooc.csv"],
        411_749,
        "actions of students on course items, 4 features",
    ),
    jodie(
        "lastfm",
        "http://snap.stanford.edu/jodie/lastfm.csv",
        &["lastfm.csv"],
        1_293_103,
        "songs listened to by users",
    ),
    tgb(
        "tgbl-wiki",
        tgb_store!("tgbl-wiki-v2.zip"),
        &["tgbl-wiki_edgelist_v2.csv", "tgbl-wiki_val_ns_v2.pkl", "tgbl-wiki_test_ns_v2.pkl"],
        Some(157_474),
        "TGB's copy of wikipedia with its fixed negatives",
    ),
    tgb(
        "tgbl-review",
        tgb_store!("tgbl-review-v2.zip"),
        &["tgbl-review_edgelist_v2.csv", "tgbl-review_val_ns_v2.pkl", "tgbl-review_test_ns_v2.pkl"],
        Some(4_873_540),
        "reviews of products by customers, weighted by rating",
    ),
    tgb(
        "tgbl-coin",
        tgb_store!("tgbl-coin-v2.zip"),
        &["tgbl-coin_edgelist_v2.csv", "tgbl-coin_val_ns_v2.pkl", "tgbl-coin_test_ns_v2.pkl"],
        Some(22_809_486),
        "payments between addresses, weighted by amount",
    ),
    tgb(
        "tgbl-comment",
        tgb_store!("tgbl-comment.zip"),
        &["tgbl-comment_edgelist.csv", "tgbl-comment_val_ns.pkl", "tgbl-comment_test_ns.pkl"],
        Some(44_314_507),
        "replies between users, with length and score",
    ),
    tgb(
        "tgbl-flight",
        tgb_store!("tgbl-flight-v2.zip"),
        &[
            "tgbl-flight_edgelist_v2.csv",
            "tgbl-flight_val_ns_v2.pkl",
            "tgbl-flight_test_ns_v2.pkl",
            "airport_node_feat_v2.csv",
        ],
        Some(67_169_570),
        "flights between airports, with airports' features",
    ),
    Set {
        citation: DGB,
        ..tgb(
            "tgbl-uci",
            tgb_store!("tgbl-uci.zip"),
            &["tgbl-uci_edgelist.csv", "tgbl-uci_val_ns.pkl", "tgbl-uci_test_ns.pkl"],
            None,
            "messages between students",
        )
    },
    Set {
        citation: DGB,
        ..tgb(
            "tgbl-enron",
            tgb_store!("tgbl-enron.zip"),
            &["tgbl-enron_edgelist.csv", "tgbl-enron_val_ns.pkl", "tgbl-enron_test_ns.pkl"],
            None,
            "e-mails between employees",
        )
    },
    Set {
        citation: JODIE,
        ..tgb(
            "tgbl-subreddit",
            tgb_store!("tgbl-subreddit.zip"),
            &["tgbl-subreddit_edgelist.csv", "tgbl-subreddit_val_ns.pkl", "tgbl-subreddit_test_ns.pkl"],
            Some(672_447),
            "TGB's copy of reddit with its fixed negatives",
        )
    },
    Set {
        citation: JODIE,
        ..tgb(
            "tgbl-lastfm",
            tgb_store!("tgbl-lastfm.zip"),
            &["tgbl-lastfm_edgelist.csv", "tgbl-lastfm_val_ns.pkl", "tgbl-lastfm_test_ns.pkl"],
            Some(1_293_103),
            "TGB's copy of lastfm with its fixed negatives",
        )
    },
    tgb(
        "tgbn-trade",
        tgb_store!("tgbn-trade.zip"),
        &["tgbn-trade_edgelist.csv", "tgbn-trade_node_labels.csv"],
        None,
        "trade between nations, weighted by amount, and labels of nodes",
    ),
    tgb(
        "tgbn-genre",
        tgb_store!("tgbn-genre.zip"),
        &["tgbn-genre_edgelist.csv", "tgbn-genre_node_labels.csv"],
        None,
        "genres of music that users listen to, and labels of nodes",
    ),
    tgb(
        "tgbn-reddit",
        tgb_store!("tgbn-reddit.zip"),
        &["tgbn-reddit_edgelist.csv", "tgbn-reddit_node_labels.csv"],
        None,
        "posts of users to subreddits, and labels of nodes",
    ),
    tgb(
        "tgbn-token",
        tgb_store!("tgbn-token.zip"),
        &["tgbn-token_edgelist.csv", "tgbn-token_node_labels.csv"],
        None,
        "transfers of tokens by addresses, and labels of nodes",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_set_has_its_own_name_and_a_file_to_prepare() {
        let names: HashSet<_> = SETS.iter().map(|set| set.name).collect();
        assert_eq!(names.len(), SETS.len());
        for set in SETS {
            assert!(set.source().ends_with(".csv"), "{}", set.name);
            assert_eq!(set.packing == Packing::Zip, set.remote_name().ends_with(".zip"), "{}", set.name);
            if set.packing == Packing::Plain {
                assert_eq!(set.files, [set.remote_name()]);
            }
        }
    }

    #[test]
    fn every_link_set_of_tgb_comes_with_its_negatives() {
        for set in SETS.iter().filter(|set| set.name.starts_with("tgbl-")) {
            let negatives = set.negatives().unwrap_or_else(|| panic!("{}", set.name));
            assert!(negatives.iter().all(|file| file.starts_with(set.name) && file.ends_with(".pkl")), "{negatives:?}");
        }
    }

    #[test]
    fn the_list_names_every_set_and_its_address() {
        let text = table();
        for set in SETS {
            assert!(text.lines().any(|line| line.starts_with(set.name) && line.contains(set.url)), "{}", set.name);
        }
    }

    #[test]
    fn a_name_unlike_any_set_suggests_none() {
        assert_eq!(nearest("zzzzqqq"), None);
        assert_eq!(nearest("Wikipeda"), Some("wikipedia"));
    }
}
