// Attention of blocks of 16 whole query rows, scored in tiles of 64 keys.
//   score = $scale · Σ queryElement * keyElement
//   allowed = keyPosition <= queryPosition
//   weight = softmax(score, sink none)
//   weight ← weight
//   value ← value
//   output = logSumExp
//   output ← output
//   $scale: f32

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
@group(0) @binding(8) var<storage, read_write> scratch: array<f32>;  // terms, then weights, of the rows of this dispatch; lowest where there is none

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

// e^x to about 2 units in the last place; 0 below −87, the largest number above 88.7.
fn exponential(x: f32) -> f32 {
  let bounded = clamp(x, -104.0f, 88.72f);
  let n = round(bounded * 1.4426950408889634f);
  let rest = fma(n, -1.4286068203094173e-06f, fma(n, -0.693145751953125f, bounded));
  let tail = fma(fma(fma(fma(0.0013814173871651292f, rest, 0.008368921466171741f), rest, 0.04166840761899948f), rest, 0.1666651964187622f), rest, 0.4999999403953552f);
  let mantissa = fma(tail, rest * rest, rest) + 1.0f;
  let half = i32(n) / 2i;
  let other = i32(n) - half;
  return mantissa * bitcast<f32>((half + 127i) << 23u) * bitcast<f32>((other + 127i) << 23u);
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

// Channels 4 · quad … 4 · quad + 3 of a row of query.
fn queryQuad(row: u32, quad: u32) -> vec4<f32> {
  return query[row * 16u + quad];
}

// Channels 4 · quad … 4 · quad + 3 of a row of key.
fn keyQuad(row: u32, quad: u32) -> vec4<f32> {
  return key[row * 16u + quad];
}

fn valueElement(row: u32, channel: u32) -> f32 {
  return f32(value[row * 16u + channel / 4u][channel % 4u]);
}

// Channels 4 · quad … 4 · quad + 3 of a row of value.
fn valueQuad(row: u32, quad: u32) -> vec4<f32> {
  return value[row * 16u + quad];
}

// Teams of lanes; each owns rows of the block, and each of its lanes four keys of a tile.
const lanes = 16u;
const teams = 8u;
const rows = 2u;
const blockQuery = 16u;
const blockKey = 64u;

// A chunk of the channels of a tile of keys, [quad][key + 1]; then the scores and weights of the tile, [slot][lane + 1], four keys in a vector.
var<workgroup> tile: array<vec4<f32>, 520>;

fn pairAt(slot: u32, lane: u32) -> u32 {
  return slot * (lanes + 1u) + lane;
}

var<workgroup> shares: array<f32, teams * 16u>;

fn rowSum(local: u32, own: f32) -> f32 {
  shares[local] = own;
  workgroupBarrier();
  let row = local / lanes * 16u;
  var result = 0.0f;
  for (var other = 0u; other < 16u; other++) {
    result += shares[row + other];
  }
  workgroupBarrier();
  return result;
}

fn rowMaximum(local: u32, own: f32) -> f32 {
  shares[local] = own;
  workgroupBarrier();
  let row = local / lanes * 16u;
  var result = shares[row];
  for (var other = 0u; other < 16u; other++) {
    result = max(result, shares[row + other]);
  }
  workgroupBarrier();
  return result;
}

var<workgroup> counts: array<f32, blockQuery>;  // [slot]: how many keys a row sees

// Numbers that are not finite as 0: a weight of 0 brings nothing, whatever stands in the value (L10).
fn finiteQuad(value: vec4<f32>) -> vec4<f32> {
  let exponents = bitcast<vec4<u32>>(value) & vec4<u32>(0x7f800000u);
  return select(value, vec4<f32>(0.0f), exponents == vec4<u32>(0x7f800000u));
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
  let scratchAt = (task - parameters.firstTask) * blockQuery;
  var ordinal = 0u;
  for (var run = 0u; run < runCount; run++) {
    let end = integers[runsAt + 3u * run + 1u];
    let mixed = integers[runsAt + 3u * run + 2u] != 0;
    for (var first = integers[runsAt + 3u * run + 0u]; first < end; first += i32(blockKey)) {
      // 1  combine: sums over channels
      let query0 = firstQueryRow + u32(integers[rowsAt + min(0u * teams + team, rowCount - 1u)]);
      let query1 = firstQueryRow + u32(integers[rowsAt + min(1u * teams + team, rowCount - 1u)]);
      var combined = array<vec4<f32>, 2>();
      for (var chunk = 0u; chunk < 16u; chunk += 8u) {
        for (var place = local; place < 8u * blockKey; place += lanes * teams) {
          let quad = place % 8u;
          let key = place / 8u;
          tile[quad * (blockKey + 1u) + key] = keyQuad(firstKeyRow + u32(min(first + i32(key), end - 1)), chunk + quad);
        }
        workgroupBarrier();
        for (var quad = 0u; quad < 8u; quad++) {
          let at = quad * (blockKey + 1u) + lane;
          let keys = mat4x4<f32>(tile[at], tile[at + lanes], tile[at + 2u * lanes], tile[at + 3u * lanes]);
          combined[0] += queryQuad(query0, chunk + quad) * keys;
          combined[1] += queryQuad(query1, chunk + quad) * keys;
        }
        workgroupBarrier();
      }
      tile[pairAt(0u * teams + team, lane)] = combined[0];
      tile[pairAt(1u * teams + team, lane)] = combined[1];

      // 2  scale and modify, 3  mask
      if (mixed) {
        for (var part = 0u; part < rows; part++) {
          let slot = part * teams + team;
          let queryIndex = integers[rowsAt + min(slot, rowCount - 1u)];
          let queryPosition = positionAt(sequence.queryPositions, sequence.queryOffset, queryIndex);
          let queryRow = firstQueryRow + u32(queryIndex);
          for (var turn = 0u; turn < 4u; turn++) {
            let keyPlace = first + i32(turn * lanes + lane);
            let keyIndex = min(keyPlace, end - 1);
            let keyPosition = positionAt(sequence.keyPositions, sequence.keyOffset, keyIndex);
            var score = parameters.uniform_scale * tile[pairAt(slot, lane)][turn];
            let present = keyPlace < end && (keyPosition <= queryPosition) && score > lowest;
            let term = score;
            scratch[(scratchAt + slot) * parameters.scratchStride + ordinal * blockKey + turn * lanes + lane] = select(lowest, term, present);
          }
        }
      }
      else {
        for (var part = 0u; part < rows; part++) {
          let slot = part * teams + team;
          let queryIndex = integers[rowsAt + min(slot, rowCount - 1u)];
          let queryPosition = positionAt(sequence.queryPositions, sequence.queryOffset, queryIndex);
          let queryRow = firstQueryRow + u32(queryIndex);
          for (var turn = 0u; turn < 4u; turn++) {
            let keyPlace = first + i32(turn * lanes + lane);
            let keyIndex = keyPlace;
            let keyPosition = positionAt(sequence.keyPositions, sequence.keyOffset, keyIndex);
            var score = parameters.uniform_scale * tile[pairAt(slot, lane)][turn];
            let present = score > lowest;
            let term = score;
            scratch[(scratchAt + slot) * parameters.scratchStride + ordinal * blockKey + turn * lanes + lane] = select(lowest, term, present);
          }
        }
      }
      workgroupBarrier();
      ordinal += 1u;
    }
  }
  let places = ordinal * blockKey;
  for (var part = 0u; part < rows; part++) {
    let slot = part * teams + team;
    let queryIndex = integers[rowsAt + min(slot, rowCount - 1u)];
    let queryPosition = positionAt(sequence.queryPositions, sequence.queryOffset, queryIndex);
    let queryRow = firstQueryRow + u32(queryIndex);
    let rowAt = (scratchAt + slot) * parameters.scratchStride;

    // 4  normalize
    var largestOwn = lowest;
    for (var place = lane; place < places; place += lanes) {
      let term = scratch[rowAt + place];
      if (term > lowest) {
        largestOwn = max(largestOwn, term);
      }
    }
    let largest = rowMaximum(local, largestOwn);
    var countOwn = 0.0f;
    for (var place = lane; place < places; place += lanes) {
      let term = scratch[rowAt + place];
      if (term > lowest) {
        countOwn += 1.0f;
      }
    }
    let count = rowSum(local, countOwn);
    let peak = largest;
    var totalOwn = 0.0f;
    for (var place = lane; place < places; place += lanes) {
      let term = scratch[rowAt + place];
      if (term > lowest) {
        totalOwn += exponential(term - peak);
      }
    }
    let total = rowSum(local, totalOwn);
    let whole = total;
    let normalizer = peak + naturalLogarithm(whole);

    // Weights take the place of the terms.
    for (var place = lane; place < places; place += lanes) {
      let term = scratch[rowAt + place];
      if (term > lowest) {
        scratch[rowAt + place] = exponential(term - peak) / whole;
      }
    }
    if (lane == 0u && slot < rowCount) {
      counts[slot] = count;
      statistics[queryRow] = select(bitcast<u32>(normalizer), 0xff800000u, count == 0.0f);
    }
  }

  // 6  aggregate: every lane reads the weights of the whole row
  storageBarrier();
  workgroupBarrier();
  for (var part = 0u; part < rows; part++) {
    let slot = part * teams + team;
    let queryIndex = integers[rowsAt + min(slot, rowCount - 1u)];
    let queryPosition = positionAt(sequence.queryPositions, sequence.queryOffset, queryIndex);
    let queryRow = firstQueryRow + u32(queryIndex);
    if (slot < rowCount) {
      for (var channel = i32(lane); channel < 64i; channel += i32(lanes)) {
        var greatest = lowest;
         {
          var ordinal = 0u;
          for (var run = 0u; run < runCount; run++) {
            let end = integers[runsAt + 3u * run + 1u];
            let mixed = integers[runsAt + 3u * run + 2u] != 0;
            for (var first = integers[runsAt + 3u * run + 0u]; first < end; first += i32(blockKey)) {
              for (var other = 0u; other < min(blockKey, u32(end - first)); other++) {
                let share = scratch[(scratchAt + slot) * parameters.scratchStride + ordinal * blockKey + other];
                if (share > lowest && share != 0.0f) {
                  let element = valueElement(firstKeyRow + u32(first) + other, u32(channel));
                  greatest = max(greatest, naturalLogarithm(abs(share)) + element);
                }
              }
              ordinal += 1u;
            }
          }
        }
        var sum = 0.0f;
         {
          var ordinal = 0u;
          for (var run = 0u; run < runCount; run++) {
            let end = integers[runsAt + 3u * run + 1u];
            let mixed = integers[runsAt + 3u * run + 2u] != 0;
            for (var first = integers[runsAt + 3u * run + 0u]; first < end; first += i32(blockKey)) {
              for (var other = 0u; other < min(blockKey, u32(end - first)); other++) {
                let share = scratch[(scratchAt + slot) * parameters.scratchStride + ordinal * blockKey + other];
                if (share > lowest && share != 0.0f) {
                  let element = valueElement(firstKeyRow + u32(first) + other, u32(channel));
                  sum += sign(share) * exponential(naturalLogarithm(abs(share)) + element - greatest);
                }
              }
              ordinal += 1u;
            }
          }
        }
        var aggregated = greatest + naturalLogarithm(sum);
        output[queryRow * 64u + u32(channel)] = select(bitcast<u32>(aggregated), 0u, counts[slot] == 0.0f);
      }
    }
  }
}
