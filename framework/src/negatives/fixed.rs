//! Negatives listed in a file.
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::dataset::{Side, Sides};
use crate::negatives::NegativesError;
use crate::{EventId, NodeId};

/// A table of negatives for consecutive events.
///
/// The file is safetensors:
///
/// | tensor | type and shape | meaning |
/// |---|---|---|
/// | `negatives` | u32 `[n, M]`, or `[total]` where events differ in number | dense node ids, event after event |
/// | `first_event` | u64 `[1]` | the log position of the first row |
/// | `offsets` | u64 `[n + 1]`, only with `[total]` | negatives of row `i` are `negatives[offsets[i]..offsets[i + 1]]` |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedNegatives {
    first: EventId,
    nodes: Vec<NodeId>,
    offsets: Vec<usize>,
}

impl FixedNegatives {
    /// A table whose row `i` belongs to event `first + i` and holds `nodes[offsets[i]..offsets[i + 1]]`.
    ///
    /// # Errors
    /// When the offsets do not lay out the nodes.
    pub fn new(first: EventId, nodes: Vec<NodeId>, offsets: Vec<usize>) -> Result<Self, NegativesError> {
        let fits = offsets.first() == Some(&0) && offsets.last() == Some(&nodes.len()) && offsets.is_sorted();
        if !fits {
            let end = offsets.last().copied().unwrap_or(0);
            return Err(NegativesError::Offsets { offsets: offsets.len(), end, negatives: nodes.len() });
        }
        Ok(Self { first, nodes, offsets })
    }

    /// First event of the table.
    pub fn first(&self) -> EventId {
        self.first
    }

    /// Number of events in the table.
    pub fn events(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The negatives of one event.
    ///
    /// # Errors
    /// If the table has no row for the event.
    pub fn of(&self, event: EventId) -> Result<&[NodeId], NegativesError> {
        let row = event.0.checked_sub(self.first.0).map(|row| row as usize).filter(|&row| row < self.events());
        let end = EventId(self.first.0.saturating_add(self.events() as u64));
        let row = row.ok_or(NegativesError::UnknownEvent { event, first: self.first, end })?;
        Ok(&self.nodes[self.offsets[row]..self.offsets[row + 1]])
    }

    /// Checks the rows of those of `events` that the table has: every negative is a node that can be a destination, and
    /// not the event's own. `dst` are the destinations of the whole log, and `nodes` its number of nodes.
    ///
    /// # Errors
    /// [`NegativesError::Negative`] for the first that is not, [`NegativesError::Empty`] for a row of none.
    pub fn check(
        &self,
        events: Range<usize>,
        dst: &[NodeId],
        nodes: usize,
        sides: Sides,
    ) -> Result<(), NegativesError> {
        let first = self.first.index();
        let last = events.end.min(first.saturating_add(self.events())).min(dst.len());
        let begin = events.start.max(first).min(last);
        for (event, &own) in (begin..last).zip(&dst[begin..last]) {
            let row = event - first;
            let listed = &self.nodes[self.offsets[row]..self.offsets[row + 1]];
            if listed.is_empty() {
                return Err(NegativesError::Empty { row, event: EventId(event as u64) });
            }
            let problem = |node: NodeId| match node {
                node if node.index() >= nodes => {
                    Some(format!("does not exist: the set has the nodes 0 to {}", nodes.saturating_sub(1)))
                }
                node if sides.of(node) == Some(Side::Source) => {
                    Some("is a source, and a negative is a destination".to_string())
                }
                node if node == own => Some("is the event's true destination".to_string()),
                _ => None,
            };
            let found = listed.iter().enumerate().find_map(|(index, &node)| Some((index, node, problem(node)?)));
            if let Some((index, node, problem)) = found {
                return Err(NegativesError::Negative { row, event: EventId(event as u64), index, node, problem });
            }
        }
        Ok(())
    }

    /// Reads a table; see the type for the form.
    ///
    /// # Errors
    /// When the file cannot be read or does not keep its form.
    pub fn read(path: &Path) -> Result<Self, NegativesError> {
        let bytes = std::fs::read(path).map_err(|source| NegativesError::File { path: path.into(), source })?;
        Self::parse(&bytes).map_err(|reason| NegativesError::Form { path: path.into(), reason })
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let file = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
        let (shape, negatives) = column(&file, "negatives", Dtype::U32, |chunk| NodeId(u32::from_le_bytes(chunk)))?;
        let (_, first) = column(&file, "first_event", Dtype::U64, u64::from_le_bytes)?;
        let &[first] = first.as_slice() else {
            return Err(format!("`first_event` has {} values, not one", first.len()));
        };
        let offsets = match shape[..] {
            // Rows of nothing take no room in the file, so there may be any number of them.
            [events, 0] if events > 0 => return Err(format!("`negatives` has {events} rows of no negatives")),
            [events, each] => (0..=events).map(|event| event * each).collect(),
            [_] => column(&file, "offsets", Dtype::U64, |chunk| u64::from_le_bytes(chunk) as usize)?.1,
            _ => return Err(format!("`negatives` has {} axes, not one or two", shape.len())),
        };
        Self::new(EventId(first), negatives, offsets).map_err(|e| e.to_string())
    }

    /// Writes the table; see the type for the form.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), NegativesError> {
        let negatives: Vec<u8> = self.nodes.iter().flat_map(|node| node.0.to_le_bytes()).collect();
        let offsets: Vec<u8> = self.offsets.iter().flat_map(|&offset| (offset as u64).to_le_bytes()).collect();
        let first = self.first.0.to_le_bytes();
        let each = self.offsets.get(1).copied().unwrap_or(0);
        let even = self.offsets.windows(2).all(|pair| pair[1] - pair[0] == each);

        let mut tensors = vec![("first_event", Dtype::U64, vec![1], &first[..])];
        if even {
            tensors.push(("negatives", Dtype::U32, vec![self.events(), each], &negatives));
        } else {
            tensors.push(("negatives", Dtype::U32, vec![self.nodes.len()], &negatives));
            tensors.push(("offsets", Dtype::U64, vec![self.offsets.len()], &offsets));
        }
        let form = |e: safetensors::SafeTensorError| NegativesError::Form { path: path.into(), reason: e.to_string() };
        let views =
            tensors.into_iter().map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(dtype, shape, bytes)?)));
        let views = views.collect::<Result<Vec<_>, _>>().map_err(form)?;
        let bytes = safetensors::serialize(views, None::<HashMap<String, String>>).map_err(form)?;
        std::fs::write(path, bytes).map_err(|source| NegativesError::File { path: path.into(), source })
    }
}

/// A tensor's shape and values.
fn column<T, const WIDTH: usize>(
    file: &SafeTensors<'_>,
    name: &str,
    dtype: Dtype,
    decode: impl Fn([u8; WIDTH]) -> T,
) -> Result<(Vec<usize>, Vec<T>), String> {
    let tensor = file.tensor(name).map_err(|e| e.to_string())?;
    if tensor.dtype() != dtype {
        return Err(format!("`{name}` holds {:?}, not {dtype:?}", tensor.dtype()));
    }
    let (chunks, _) = tensor.data().as_chunks::<WIDTH>();
    Ok((tensor.shape().to_vec(), chunks.iter().map(|&chunk| decode(chunk)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables() -> [FixedNegatives; 3] {
        let nodes: Vec<NodeId> = [4, 1, u32::MAX, 7, 7, 2].map(NodeId).to_vec();
        [
            FixedNegatives::new(EventId(90), nodes.clone(), vec![0, 2, 4, 6]).unwrap(),
            FixedNegatives::new(EventId(1 << 40), nodes, vec![0, 0, 5, 6]).unwrap(),
            FixedNegatives::new(EventId(0), vec![], vec![0]).unwrap(),
        ]
    }

    #[test]
    fn a_written_table_reads_back_equal() {
        let folder = tempfile::tempdir().unwrap();
        for table in tables() {
            let path = folder.path().join("negatives.safetensors");
            table.write(&path).unwrap();
            assert_eq!(FixedNegatives::read(&path).unwrap(), table);
        }
    }

    #[test]
    fn a_broken_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("negatives.safetensors");
        assert!(matches!(FixedNegatives::read(&path), Err(NegativesError::File { .. })));
        tables()[1].write(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let refused = FixedNegatives::read(&path).unwrap_err().to_string();
            assert!(refused.contains("negatives.safetensors"), "{refused}");
        }
    }

    #[test]
    fn a_file_promises_no_more_rows_than_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("negatives.safetensors");
        let header = br#"{"negatives":{"dtype":"U32","shape":[1152921504606846976,0],"data_offsets":[0,0]},"first_event":{"dtype":"U64","shape":[1],"data_offsets":[0,8]}}"#;
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header, &u64::MAX.to_le_bytes()].concat();
        std::fs::write(&path, bytes).unwrap();
        let refused = FixedNegatives::read(&path).unwrap_err().to_string();
        assert!(refused.contains("has 1152921504606846976 rows of no negatives"), "{refused}");
        let last = FixedNegatives::new(EventId(u64::MAX), vec![NodeId(1)], vec![0, 1]).unwrap();
        assert!(last.of(EventId(0)).is_err());
    }

    #[test]
    fn a_negative_that_is_none_is_refused_by_its_row() {
        let dst = [5, 6, 5, 7].map(NodeId);
        let sides = Sides::Bipartite { sources: 5 };
        let table =
            |nodes: [u32; 4]| FixedNegatives::new(EventId(2), nodes.map(NodeId).to_vec(), vec![0, 2, 4]).unwrap();
        let refused = |nodes, sides| table(nodes).check(2..4, &dst, 8, sides).unwrap_err().to_string();
        assert!(table([6, 7, 5, 6]).check(2..4, &dst, 8, sides).is_ok());
        assert_eq!(
            refused([6, 7, 5, 5000], sides),
            "row 1 (event 3), negative 1: node 5000 does not exist: the set has the nodes 0 to 7"
        );
        assert_eq!(
            refused([6, 4, 5, 6], sides),
            "row 0 (event 2), negative 1: node 4 is a source, and a negative is a destination"
        );
        assert_eq!(refused([6, 7, 7, 6], sides), "row 1 (event 3), negative 0: node 7 is the event's true destination");
        let gap = FixedNegatives::new(EventId(2), vec![NodeId(6)], vec![0, 1, 1]).unwrap();
        assert_eq!(
            gap.check(2..4, &dst, 8, sides).unwrap_err().to_string(),
            "row 1 (event 3) lists no negatives: an event is ranked among one or more"
        );
        // in a one-mode set any node may be a destination, and rows that nobody asks about are not looked at
        assert!(table([6, 4, 5, 6]).check(2..4, &dst, 8, Sides::OneMode).is_ok());
        assert!(table([6, 7, 5, 5000]).check(0..3, &dst, 8, sides).is_ok());
    }

    #[test]
    fn a_table_speaks_only_of_its_own_events() {
        let [table, ..] = tables();
        assert_eq!(table.of(EventId(91)).unwrap(), [NodeId(u32::MAX), NodeId(7)]);
        for event in [0, 89, 93] {
            assert!(table.of(EventId(event)).is_err());
        }
        assert!(FixedNegatives::new(EventId(0), vec![NodeId(1)], vec![0, 2]).is_err());
        assert!(FixedNegatives::new(EventId(0), vec![], vec![]).is_err());
    }
}
