/**
 * Ranges of a room's messages that are not on this device.
 *
 * The gaps of a room are sorted; no two overlap, and neighbours of one kind are one gap.
 */

/** Messages with `low` <= seq <= `high`; `lost`: the relay has them no more either. */
export interface Gap {
  readonly low: number;
  readonly high: number;
  readonly lost: boolean;
}

export type Gaps = readonly Gap[];

/** `gaps` and the range, without the seqs that are `here`. Where it overlaps, what was there stays. */
export function add(
  gaps: Gaps,
  low: number,
  high: number,
  here: readonly number[] = [],
  lost = false,
): Gaps {
  let pieces = between({ low, high, lost }, here);
  for (const known of gaps) pieces = pieces.flatMap((one) => outside(one, known.low, known.high));
  return normal([...gaps, ...pieces]);
}

/** `gaps` without the range `low` to `high`: those messages are here. */
export function remove(gaps: Gaps, low: number, high: number): Gaps {
  return low > high ? gaps : normal(gaps.flatMap((gap) => outside(gap, low, high)));
}

/** `gaps`, now that all `below` this seq that is not `here` is lost. */
export function lose(gaps: Gaps, below: number, here: readonly number[]): Gaps {
  return normal(
    gaps.flatMap((gap) =>
      gap.lost || gap.low >= below
        ? [gap]
        : [
            ...between({ low: gap.low, high: Math.min(gap.high, below - 1), lost: true }, here),
            { ...gap, low: Math.max(gap.low, below) },
          ],
    ),
  );
}

/** What of `gaps` is lost and was not `before`. */
export function newlyLost(gaps: Gaps, before: Gaps): Gaps {
  const known = before.filter((gap) => gap.lost);
  return gaps
    .filter((gap) => gap.lost)
    .flatMap((gap) =>
      known.reduce((left, one) => left.flatMap((piece) => outside(piece, one.low, one.high)), [gap]),
    );
}

/** Whether `seq` lies in a gap that can still be filled. */
export function isMissing(gaps: Gaps, seq: number): boolean {
  return gaps.some((gap) => gap.low <= seq && seq <= gap.high && !gap.lost);
}

/** The runs of a gap that are free of the seqs `here`, which rise. */
function between({ low, high, lost }: Gap, here: readonly number[]): Gap[] {
  const ends = [...here.filter((seq) => low <= seq && seq <= high), high + 1];
  const pieces = ends.map((end, at) => ({ low: (ends[at - 1] ?? low - 1) + 1, high: end - 1, lost }));
  return pieces.filter(isOne);
}

function outside(gap: Gap, low: number, high: number): Gap[] {
  return [
    { ...gap, high: Math.min(gap.high, low - 1) },
    { ...gap, low: Math.max(gap.low, high + 1) },
  ].filter(isOne);
}

const isOne = (gap: Gap): boolean => gap.low <= gap.high;

function normal(pieces: Gap[]): Gaps {
  const result: Gap[] = [];
  for (const gap of pieces.filter(isOne).sort((one, other) => one.low - other.low)) {
    const last = result.at(-1);
    if (last?.lost === gap.lost && gap.low <= last.high + 1) {
      result[result.length - 1] = { ...last, high: Math.max(last.high, gap.high) };
    } else result.push(gap);
  }
  return result;
}
