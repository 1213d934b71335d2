// Attention of blocks of 32 query rows, one walk over the keys in tiles of 64.
//   query ← projection(queryProjection, bias none, width 32)
//   key ← projection(keyProjection, bias none, width 32)
//   score = $scale · Σ vector[channel] * tanh(queryElement + keyElement)
//   allowed = true
//   weight = softmax(score, sink none)
//   weight ← weight
//   value ← value
//   output = sum
//   output ← output
//   $scale: f32
//   vector: f32[scoreDim]
//   queryProjection: f32[32, queryDim]
//   keyProjection: f32[32, keyDim]

struct Parameters {
  firstTask: u32,  // this dispatch computes tasks firstTask … endTask − 1
  endTask: u32,
  heads: i32,
  keyHeads: i32,
  headOffset: u32,
  queryRows: i32,  // rows of the tensors for each entry of the batch
  keyRows: i32,
  sequencesAt: u32,  // where records begin in integers
  tasksAt: u32,
  scratchStride: u32,  // numbers of one row in scratch
  rowCount: u32,  // rows of one plane of statistics
  table_vector_at: u32,
  table_vector_step0: i32,
  table_queryProjection_at: u32,
  table_queryProjection_step0: i32,
  table_queryProjection_step1: i32,
  table_keyProjection_at: u32,
  table_keyProjection_step0: i32,
  table_keyProjection_step1: i32,
  uniform_scale: f32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> query: array<vec4<f32>>;  // f32 [batch, heads, queryRows, scoreDim], transformed
@group(0) @binding(2) var<storage, read> key: array<vec4<f32>>;  // f32 [batch, keyHeads, keyRows, scoreDim], transformed
@group(0) @binding(3) var<storage, read> value: array<vec4<f32>>;  // f32 [batch, keyHeads, keyRows, valueDim], prepared
@group(0) @binding(4) var<storage, read> integers: array<i32>;  // sequences, tasks, rows, runs of keys, positions
@group(0) @binding(5) var<storage, read> tables: array<u32>;  // every table of the variant, one after another
@group(0) @binding(6) var<storage, read_write> output: array<u32>;  // bits of f32 [batch, heads, queryRows, valueDim]
@group(0) @binding(7) var<storage, read_write> statistics: array<u32>;  // bits of f32, planes of [batch, heads, queryRows]

// A score from here down counts as −∞; what the mask forbids is exactly here.
const lowest = -1.0e30f;

struct Sequence {
  id: i32,
  batch: i32,
  tensorBatch: i32,
  queryStart: i32,
  keyStart: i32,
  queryLength: i32,
  keyLength: i32,
  totalKeyLength: i32,
  queryOffset: i32,
  keyOffset: i32,
  queryPositions: i32,
  keyPositions: i32,
}

fn sequenceAt(index: i32) -> Sequence {
  let at = parameters.sequencesAt + 12u * u32(index);
  return Sequence(integers[at + 0u], integers[at + 1u], integers[at + 2u], integers[at + 3u], integers[at + 4u], integers[at + 5u], integers[at + 6u], integers[at + 7u], integers[at + 8u], integers[at + 9u], integers[at + 10u], integers[at + 11u]);
}

// Where a query row stands in the tensors of queries and outputs.
fn rowInTensor(sequence: Sequence, head: i32, queryIndex: i32) -> u32 {
  return u32((sequence.tensorBatch * parameters.heads + head) * parameters.queryRows + sequence.queryStart + queryIndex);
}

// Position of a row (L3): from a list, or counted from the offset.
fn positionAt(list: i32, offset: i32, index: i32) -> i32 {
  if (list < 0) {
    return offset + index;
  }
  return integers[u32(list + index)];
}

// vector [scoreDim]
fn table_vector(i0: i32) -> f32 {
  return finite(tables[parameters.table_vector_at + u32(i0 * parameters.table_vector_step0)]);
}

// queryProjection [32, queryDim]
fn table_queryProjection(i0: i32, i1: i32) -> f32 {
  return finite(tables[parameters.table_queryProjection_at + u32(i0 * parameters.table_queryProjection_step0 + i1 * parameters.table_queryProjection_step1)]);
}

// keyProjection [32, keyDim]
fn table_keyProjection(i0: i32, i1: i32) -> f32 {
  return finite(tables[parameters.table_keyProjection_at + u32(i0 * parameters.table_keyProjection_step0 + i1 * parameters.table_keyProjection_step1)]);
}

// tanh x to 6 units in the last place: a quotient of polynomials; ±1 beyond ±9.02.
fn hyperbolicTangent(x: f32) -> f32 {
  let bounded = clamp(x, -9.02f, 9.02f);
  let square = bounded * bounded;
  let numerator = fma(fma(fma(fma(1.331912077477582e-8f, square, 2.05835195623866e-5f), square, 0.003494037016763673f), square, 0.1337972005202577f), square, 0.999999979025227f);
  let denominator = fma(fma(fma(fma(7.762040336942855e-7f, square, 0.0003283096766960469f), square, 0.025871082679569547f), square, 0.46713035294970423f), square, 1.0f);
  return bounded * numerator / denominator;
}

// ln x to about 2 units in the last place, for x ≥ 0; the lowest number at 0.
fn naturalLogarithm(x: f32) -> f32 {
  let small = x < 1.1754943508222875e-38f;
  let bits = bitcast<i32>(select(x, x * 8388608.0f, small)) - 0x3f3504f3i;
  let exponent = f32(bits >> 23u) - select(0.0f, 23.0f, small);
  let m = bitcast<f32>((bits & 0x007fffffi) + 0x3f3504f3i) - 1.0f;
  let square = m * m;
  var tail = -0.07635655999183655f;
  tail = fma(tail, m, 0.12763327360153198f);
  tail = fma(tail, m, -0.1316058188676834f);
  tail = fma(tail, m, 0.14201553165912628f);
  tail = fma(tail, m, -0.16623298823833466f);
  tail = fma(tail, m, 0.20001234114170074f);
  tail = fma(tail, m, -0.250008225440979f);
  tail = fma(tail, m, 0.3333333134651184f);
  let small_terms = fma(exponent, 1.4286068203094173e-06f, m * square * tail) - 0.5f * square;
  return select(fma(exponent, 0.693145751953125f, small_terms + m), -3.4028234663852886e38f, x <= 0.0f);
}

// −∞ of a table as the lowest number: arithmetic may assume that nothing is infinite.
fn finite(bits: u32) -> f32 {
  return bitcast<f32>(select(bits, 0xff7fffffu, bits == 0xff800000u));
}

fn queryElement(row: u32, channel: u32) -> f32 {
  return f32(query[row * 8u + channel / 4u][channel % 4u]);
}

fn keyElement(row: u32, channel: u32) -> f32 {
  return f32(key[row * 8u + channel / 4u][channel % 4u]);
}

// Channels 4 · quad … 4 · quad + 3 of a row of value.
fn valueQuad(row: u32, quad: u32) -> vec4<f32> {
  return value[row * 16u + quad];
}

// Teams of lanes; each owns rows of the block, and each of its lanes four keys of a tile.
const lanes = 16u;
const teams = 8u;
const rows = 4u;
const blockQuery = 32u;
const blockKey = 64u;

// A chunk of the channels of a tile of keys, [quad][key + 1]; then the scores and weights of the tile, [slot][lane + 1], four keys in a vector.
var<workgroup> tile: array<vec4<f32>, 544>;

fn pairAt(slot: u32, lane: u32) -> u32 {
  return slot * (lanes + 1u) + lane;
}

var<workgroup> totals: array<f32, blockQuery * lanes>;  // [slot][lane]: sums of exponentials over the keys of each lane
var<workgroup> maxima: array<array<f32, blockQuery>, 2>;  // [now or before][slot]: the largest score so far
var<workgroup> shares: array<f32, blockQuery * 16u>;  // [slot][share]: largest scores of the tile

// What sums up to the tile before are multiplied by, now that a larger score may have come.
fn correctionOf(now: u32, slot: u32) -> f32 {
  return exp(maxima[1u - now][slot] - maxima[now][slot]);
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let task = parameters.firstTask + workgroup.x + workgroup.y * workgroups.x;
  if (task >= parameters.endTask) {
    return;
  }

  // This block of query rows, and this invocation’s team and lane.
  let taskAt = parameters.tasksAt + 7u * task;
  let sequence = sequenceAt(integers[taskAt + 0u]);
  let head = integers[taskAt + 1u];
  let keyHead = head * parameters.keyHeads / parameters.heads;
  let rowsAt = u32(integers[taskAt + 2u]);
  let rowCount = u32(integers[taskAt + 3u]);
  let runsAt = u32(integers[taskAt + 4u]);
  let runCount = u32(integers[taskAt + 5u]);
  let team = local / lanes;
  let lane = local % lanes;
  let firstQueryRow = rowInTensor(sequence, head, 0);
  let firstKeyRow = u32((sequence.tensorBatch * parameters.keyHeads + keyHead) * parameters.keyRows + sequence.keyStart);

  // Running statistics: of each row, and of the keys of each lane.
  var accumulator: array<vec4<f32>, 4>;  // [row][part]: quad part · lanes + lane of the row’s output
  for (var part = 0u; part < rows; part++) {
    let slot = part * teams + team;
    totals[slot * lanes + lane] = 0.0f;
    if (lane == 0u) {
      maxima[0][slot] = lowest;
      maxima[1][slot] = lowest;
    }
  }
  var now = 1u;
  workgroupBarrier();
  var ordinal = 0u;
  for (var run = 0u; run < runCount; run++) {
    let end = integers[runsAt + 3u * run + 1u];
    let mixed = integers[runsAt + 3u * run + 2u] != 0;
    for (var first = integers[runsAt + 3u * run + 0u]; first < end; first += i32(blockKey)) {
      // 1  combine: sums over channels
      for (var part = 0u; part < rows; part++) {
        let slot = part * teams + team;
        let queryIndex = integers[rowsAt + min(slot, rowCount - 1u)];
        let queryPosition = positionAt(sequence.queryPositions, sequence.queryOffset, queryIndex);
        let queryRow = firstQueryRow + u32(queryIndex);
        for (var turn = 0u; turn < 4u; turn++) {
          let keyRow = firstKeyRow + u32(min(first + i32(turn * lanes + lane), end - 1));
          var combined = 0.0f;
          for (var channel = 0i; channel < 32i; channel++) {
            let ofQuery = queryElement(queryRow, u32(channel));
            let ofKey = keyElement(keyRow, u32(channel));
            combined += table_vector(channel) * hyperbolicTangent(ofQuery + ofKey);
          }
          tile[pairAt(slot, lane)][turn] = combined;
        }
      }

      // 2  scale and modify, 3  mask, 4  normalize: the largest score of each row
      if (mixed) {
        for (var part = 0u; part < rows; part++) {
          let slot = part * teams + team;
          let queryIndex = integers[rowsAt + min(slot, rowCount - 1u)];
          let queryPosition = positionAt(sequence.queryPositions, sequence.queryOffset, queryIndex);
          let queryRow = firstQueryRow + u32(queryIndex);
          var largest = lowest;
          for (var turn = 0u; turn < 4u; turn++) {
            let keyPlace = first + i32(turn * lanes + lane);
            let keyIndex = min(keyPlace, end - 1);
            let keyPosition = positionAt(sequence.keyPositions, sequence.keyOffset, keyIndex);
            var score = parameters.uniform_scale * tile[pairAt(slot, lane)][turn];
            let present = keyPlace < end && score > lowest;
            let term = score;
            let kept = select(lowest, term, present);
            tile[pairAt(slot, lane)][turn] = kept;
            largest = max(largest, kept);
          }
          shares[slot * lanes + lane] = largest;
        }
      }
      else {
        for (var part = 0u; part < rows; part++) {
          let slot = part * teams + team;
          let queryIndex = integers[rowsAt + min(slot, rowCount - 1u)];
          let queryPosition = positionAt(sequence.queryPositions, sequence.queryOffset, queryIndex);
          let queryRow = firstQueryRow + u32(queryIndex);
          var largest = lowest;
          for (var turn = 0u; turn < 4u; turn++) {
            let keyPlace = first + i32(turn * lanes + lane);
            let keyIndex = keyPlace;
            let keyPosition = positionAt(sequence.keyPositions, sequence.keyOffset, keyIndex);
            var score = parameters.uniform_scale * tile[pairAt(slot, lane)][turn];
            let present = score > lowest;
            let term = score;
            let kept = select(lowest, term, present);
            tile[pairAt(slot, lane)][turn] = kept;
            largest = max(largest, kept);
          }
          shares[slot * lanes + lane] = largest;
        }
      }
      workgroupBarrier();

      // 4  normalize: exponentials, 5  reweigh
      for (var part = 0u; part < rows; part++) {
        let slot = part * teams + team;
        let queryIndex = integers[rowsAt + min(slot, rowCount - 1u)];
        let queryPosition = positionAt(sequence.queryPositions, sequence.queryOffset, queryIndex);
        let queryRow = firstQueryRow + u32(queryIndex);
        let before = maxima[1u - now][slot];
        var peak = before;
        for (var share = 0u; share < 16u; share++) {
          peak = max(peak, shares[slot * 16u + share]);
        }
        var sum = 0.0f;
        for (var turn = 0u; turn < 4u; turn++) {
          let kept = tile[pairAt(slot, lane)][turn];
          let weight = select(0.0f, exp(kept - peak), kept > lowest);
          sum += weight;
          tile[pairAt(slot, lane)][turn] = weight;
        }
        totals[slot * lanes + lane] = fma(totals[slot * lanes + lane], exp(before - peak), sum);
        if (lane == 0u) {
          maxima[now][slot] = peak;
        }
      }
      workgroupBarrier();

      // 6  aggregate
      let correction0 = correctionOf(now, 0u * teams + team);
      let correction1 = correctionOf(now, 1u * teams + team);
      let correction2 = correctionOf(now, 2u * teams + team);
      let correction3 = correctionOf(now, 3u * teams + team);
      accumulator[0] *= correction0;
      accumulator[1] *= correction1;
      accumulator[2] *= correction2;
      accumulator[3] *= correction3;
      for (var quad = 0u; quad < lanes; quad++) {
        let key0 = firstKeyRow + u32(min(first + i32(quad), end - 1));
        let key1 = firstKeyRow + u32(min(first + i32(quad + lanes), end - 1));
        let key2 = firstKeyRow + u32(min(first + i32(quad + 2u * lanes), end - 1));
        let key3 = firstKeyRow + u32(min(first + i32(quad + 3u * lanes), end - 1));
        let weights0 = tile[pairAt(0u * teams + team, quad)];
        let weights1 = tile[pairAt(1u * teams + team, quad)];
        let weights2 = tile[pairAt(2u * teams + team, quad)];
        let weights3 = tile[pairAt(3u * teams + team, quad)];
        let values = mat4x4<f32>(valueQuad(key0, lane), valueQuad(key1, lane), valueQuad(key2, lane), valueQuad(key3, lane));
        accumulator[0] += values * weights0;
        accumulator[1] += values * weights1;
        accumulator[2] += values * weights2;
        accumulator[3] += values * weights3;
      }
      workgroupBarrier();
      now = 1u - now;
      ordinal += 1u;
    }
  }

  // 7  finish
  tile[pairAt(0u * teams + team, lane)] = accumulator[0];
  tile[pairAt(1u * teams + team, lane)] = accumulator[1];
  tile[pairAt(2u * teams + team, lane)] = accumulator[2];
  tile[pairAt(3u * teams + team, lane)] = accumulator[3];
  for (var part = 0u; part < rows; part++) {
    let slot = part * teams + team;
    let queryIndex = integers[rowsAt + min(slot, rowCount - 1u)];
    let queryPosition = positionAt(sequence.queryPositions, sequence.queryOffset, queryIndex);
    let queryRow = firstQueryRow + u32(queryIndex);
    if (slot < rowCount) {
      var total = 0.0f;
      for (var other = 0u; other < lanes; other++) {
        total += totals[slot * lanes + other];
      }
      let largest = maxima[1u - now][slot];
      let empty = largest <= lowest;
      let scale = 1.0f / max(total, 1.0e-30f);
      if (lane == 0u) {
        statistics[queryRow] = select(bitcast<u32>(largest + naturalLogarithm(total)), 0xff800000u, empty);
      }
      for (var turn = 0u; turn < 4u; turn++) {
        let channel = i32(4u * (lane) + turn);
        if (channel < 64i) {
          let aggregated = tile[pairAt(slot, lane)][turn] * scale;
          output[queryRow * 64u + u32(channel)] = select(bitcast<u32>(aggregated), 0u, empty);
        }
      }
    }
  }
}
