//! Records heads.

use crate::operation::{Builder, Value};
use crate::ops::pairs::decoder::{LinkDecoder, PairFeatures};
use crate::ops::pairs::head::{Head, RowHead};

impl Builder {
    /// A link decoder of embeddings of `input` columns, `width` wide inside. With `facts` it reads facts about pairs:
    /// recency, repetition, popularity. If the program has [walks](Builder::walks), it reads their features.
    pub fn link_decoder(&mut self, input: usize, width: usize, facts: bool) -> Head {
        Head::Links(self.links(input, width, facts))
    }

    fn links(&mut self, input: usize, width: usize, facts: bool) -> LinkDecoder {
        self.check(width > 0, || "model.width is 0; it must be at least 1".into());
        if facts {
            self.needs.pairs = true;
            self.require_neighbours(0);
        }
        let pair_features = PairFeatures { pairs: facts, walks: self.needs.walks };
        let decoder = LinkDecoder::declare(&mut self.parameters, "decoder.", [input, width], pair_features);
        self.take_declared();
        decoder
    }

    /// The same for rows that contain a root's embedding of `input` columns as a source, then one of the same width as
    /// a destination.
    pub fn link_decoder_by_role(&mut self, input: usize, width: usize, facts: bool) -> Head {
        Head::Links(LinkDecoder { split_by_role: true, ..self.links(input, width, facts) })
    }

    /// A link decoder that also reads the rows of `pairs`. Their map is drawn last, so it changes no other parameter.
    pub fn link_decoder_with_pair_rows(&mut self, decoder: Head, pairs: Value) -> Head {
        let Head::Links(decoder) = decoder else {
            self.fail("a head that gives numbers for each root reads no rows of pairs");
            return decoder;
        };
        let (inputs, width) = (self.width(pairs), decoder.width());
        let map = self.parameters.drawn_last(|parameters| parameters.linear("decoder.lin_rows", inputs, width, false));
        self.take_declared();
        Head::Links(LinkDecoder { pairs: Some((pairs, map)), ..decoder })
    }

    /// A link decoder that reads only the rows of `pairs`, `width` wide inside.
    pub fn pair_row_decoder(&mut self, pairs: Value, width: usize) -> Head {
        self.check(width > 0, || "the decoder is 0 wide inside; it must be at least 1".into());
        let inputs = self.width(pairs);
        let map = self.parameters.linear("decoder.lin_rows", inputs, width, true);
        let last = self.parameters.linear("decoder.lin_final", width, 1, true);
        self.take_declared();
        let pair_features = PairFeatures::default();
        Head::Links(LinkDecoder {
            split_by_role: false,
            ends: None,
            pair_features,
            facts: None,
            pairs: Some((pairs, map)),
            last,
        })
    }

    /// A head that gives `outputs` numbers for each root, from embeddings of `input` columns, `width` wide inside.
    /// Parameters are called `decoder.lin_node…` and `decoder.lin_final…`.
    pub fn row_head(&mut self, input: usize, width: usize, outputs: usize) -> Head {
        self.check(width > 0, || "a row head is 0 wide inside; it must be at least 1".into());
        self.check(outputs > 0, || "a row head has 0 outputs; it must have at least 1".into());
        let maps = [("lin_node", input, width), ("lin_final", width, outputs)]
            .map(|(part, inputs, outputs)| self.parameters.linear(&format!("decoder.{part}"), inputs, outputs, true));
        self.take_declared();
        Head::Rows(RowHead { maps })
    }
}
