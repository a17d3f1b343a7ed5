//! The three position counters of multimodal rotary embedding.

/// Why positions cannot be counted: placeholders and images differ, a mistake of the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PositionsError {
    /// A placeholder for which no image is left, or a run of them that ends inside an image.
    #[error("the placeholders from token {token} on match no image")]
    Placeholders {
        /// The position of the first placeholder of the run.
        token: usize,
    },
    /// Images without placeholders.
    #[error("{0} images have no placeholders")]
    Images(usize),
}

/// The positions (time, row, column) of each token, three rows of `token_ids.len()`.
///
/// `grids` are the patch grids `(height, width)` of the images in order, `image_pad` is the
/// placeholder's id. Text counts p, p, p and goes on by 1. An image of `h` x `w` tokens (half its
/// grid) has time p, row p + y, column p + x, and the next token goes on at p + max(h, w).
/// Source: `get_rope_index` of transformers' Qwen3-VL.
pub fn positions(
    token_ids: &[u32],
    grids: &[(u32, u32)],
    image_pad: u32,
) -> Result<[Vec<u32>; 3], PositionsError> {
    let mut counters = [(); 3].map(|()| Vec::with_capacity(token_ids.len()));
    let mut grids = grids.iter();
    let mut next = 0;
    let mut token = 0;
    while token < token_ids.len() {
        if token_ids[token] != image_pad {
            for counter in &mut counters {
                counter.push(next);
            }
            next += 1;
            token += 1;
            continue;
        }
        let unmatched = PositionsError::Placeholders { token };
        let Some(&(grid_height, grid_width)) = grids.next() else {
            return Err(unmatched);
        };
        let (height, width) = (grid_height / 2, grid_width / 2);
        let count = height as usize * width as usize;
        let run = token_ids.get(token..token + count).unwrap_or_default();
        if run.is_empty() || run.iter().any(|id| *id != image_pad) {
            return Err(unmatched);
        }
        for row in 0..height {
            for column in 0..width {
                counters[0].push(next);
                counters[1].push(next + row);
                counters[2].push(next + column);
            }
        }
        next += height.max(width);
        token += count;
    }
    match grids.len() {
        0 => Ok(counters),
        left => Err(PositionsError::Images(left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAD: u32 = 9;

    #[test]
    fn an_image_counts_rows_and_columns() {
        let ids = [1, PAD, PAD, PAD, PAD, PAD, PAD, 2, 3];
        let [time, row, column] = positions(&ids, &[(4, 6)], PAD).unwrap();
        assert_eq!(time, [0, 1, 1, 1, 1, 1, 1, 4, 5]);
        assert_eq!(row, [0, 1, 1, 1, 2, 2, 2, 4, 5]);
        assert_eq!(column, [0, 1, 2, 3, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn placeholders_must_match_the_images() {
        assert_eq!(positions(&[1, PAD], &[], PAD), Err(PositionsError::Placeholders { token: 1 }));
        assert_eq!(positions(&[PAD, 1], &[(2, 4)], PAD), Err(PositionsError::Placeholders { token: 0 }));
        assert_eq!(positions(&[PAD], &[(2, 4)], PAD), Err(PositionsError::Placeholders { token: 0 }));
        assert_eq!(positions(&[1], &[(2, 2)], PAD), Err(PositionsError::Images(1)));
    }
}
