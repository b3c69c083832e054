//! Sums over numbered leaves in the order of one binary tree, whoever computed which.
//!
//! Rounded additions do not commute with brackets. Here the brackets are those of the tree over the leaves' numbers: 0 + 1, 2 + 3,
//! then the sums of these, and so on; a node without a right neighbour is its left one. A part of the leaves, in order, comes to the
//! few nodes that lie above it alone.

/// The sum over the leaves from `place`·2^`level` on, 2^`level` of them or up to the last.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub level: usize,
    pub place: usize,
    pub sum: Vec<f32>,
}

/// Adds up nodes that come in order.
#[derive(Debug)]
pub(super) struct Tree {
    leaves: usize,
    /// None of them is a neighbour of the one before below the same node.
    nodes: Vec<Node>,
}

impl Tree {
    /// Over so many leaves.
    pub fn new(leaves: usize) -> Self {
        Self { leaves, nodes: Vec::new() }
    }

    pub fn leaves(&self) -> usize {
        self.leaves
    }

    /// Adds a leaf.
    pub fn add_leaf(&mut self, place: usize, sum: Vec<f32>) {
        self.add(Node { level: 0, place, sum });
    }

    /// Adds a node whose leaves come after those of all before it.
    pub fn add(&mut self, node: Node) {
        self.nodes.push(node);
        loop {
            let last = self.nodes.len() - 1;
            let Node { level, place, .. } = self.nodes[last];
            if place.is_multiple_of(2) {
                // A left child rises where there is nothing to its right.
                if place > 0 && ((place + 1) << level) >= self.leaves {
                    (self.nodes[last].level, self.nodes[last].place) = (level + 1, place / 2);
                    continue;
                }
                return;
            }
            let Some(left) = last.checked_sub(1).filter(|&left| {
                let left = &self.nodes[left];
                (left.level, left.place) == (level, place - 1)
            }) else {
                return;
            };
            let right = self.nodes.pop().expect("the last node");
            let Node { level, place, sum } = &mut self.nodes[left];
            sum.iter_mut().zip(&right.sum).for_each(|(sum, &term)| *sum += term);
            (*level, *place) = (*level + 1, *place / 2);
        }
    }

    /// The nodes above what was added.
    pub fn into_nodes(self) -> Vec<Node> {
        self.nodes
    }

    /// The sum over all leaves; `None` while some are missing.
    pub fn total(mut self) -> Option<Vec<f32>> {
        let whole =
            self.nodes.len() == 1 && self.nodes[0].place == 0 && (1 << self.nodes[0].level) >= self.leaves;
        if whole { self.nodes.pop().map(|node| node.sum) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers whose sums differ by their brackets.
    fn leaf(place: usize) -> Vec<f32> {
        (0..3).map(|k| ((place * 7919 + k * 104_729) as f32).sin() * 10f32.powi((place % 5) as i32)).collect()
    }

    /// The definition, from the root down.
    fn by_hand(leaves: usize, level: usize, place: usize) -> Option<Vec<f32>> {
        if place << level >= leaves {
            return None;
        }
        if level == 0 {
            return Some(leaf(place));
        }
        let left = by_hand(leaves, level - 1, 2 * place)?;
        Some(match by_hand(leaves, level - 1, 2 * place + 1) {
            None => left,
            Some(right) => left.iter().zip(right).map(|(a, b)| a + b).collect(),
        })
    }

    #[test]
    fn however_the_leaves_are_shared_out_their_sum_is_the_same() {
        let mut plain = 0;
        for leaves in 1_usize..40 {
            let levels = leaves.next_power_of_two().ilog2() as usize;
            let expected = by_hand(leaves, levels, 0).unwrap();
            for parts in 1..=leaves {
                let mut whole = Tree::new(leaves);
                for part in 0..parts {
                    let mut own = Tree::new(leaves);
                    for place in part * leaves / parts..(part + 1) * leaves / parts {
                        own.add_leaf(place, leaf(place));
                    }
                    own.into_nodes().into_iter().for_each(|node| whole.add(node));
                }
                assert_eq!(whole.total().as_ref(), Some(&expected), "{leaves} leaves in {parts} parts");
            }
            let in_order = (0..leaves).fold(vec![0.0; 3], |sum, place| {
                sum.iter().zip(leaf(place)).map(|(a, b)| a + b).collect::<Vec<f32>>()
            });
            plain += usize::from(in_order != expected);
        }
        assert!(plain > 10, "brackets matter for these numbers");
    }

    #[test]
    fn a_missing_leaf_is_noticed() {
        for missing in 0..5 {
            let mut tree = Tree::new(5);
            (0..5).filter(|&place| place != missing).for_each(|place| tree.add_leaf(place, leaf(place)));
            assert_eq!(tree.total(), None, "{missing}");
        }
    }
}
