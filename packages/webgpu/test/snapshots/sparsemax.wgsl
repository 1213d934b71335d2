// Attention of blocks of 16 whole query rows, scored in tiles of 16 keys.
//   score = $scale · Σ queryElement * keyElement
//   allowed = true
//   weight = entmax(score, 2)
//   weight ← weight
//   value ← value
//   output = sum
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
@group(0) @binding(1) var<storage, read> query: array<f32>;  // [batch, heads, queryRows, scoreDim], transformed
@group(0) @binding(2) var<storage, read> key: array<f32>;  // [batch, keyHeads, keyRows, scoreDim], transformed
@group(0) @binding(3) var<storage, read> value: array<f32>;  // [batch, keyHeads, keyRows, valueDim], prepared
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

// Position of a row (L3): from a list, or counted from the offset.
fn positionAt(list: i32, offset: i32, index: i32) -> i32 {
  if (list < 0) {
    return offset + index;
  }
  return integers[u32(list + index)];
}

// One number for each pair of the tile, [16][16].
var<workgroup> pairs: array<f32, 256>;

fn rowSum(local: u32, own: f32) -> f32 {
  pairs[local] = own;
  workgroupBarrier();
  let row = local / 16u * 16u;
  var result = 0.0f;
  for (var other = 0u; other < 16u; other++) {
    result += pairs[row + other];
  }
  workgroupBarrier();
  return result;
}

fn rowMaximum(local: u32, own: f32) -> f32 {
  pairs[local] = own;
  workgroupBarrier();
  let row = local / 16u * 16u;
  var result = pairs[row];
  for (var other = 0u; other < 16u; other++) {
    result = max(result, pairs[row + other]);
  }
  workgroupBarrier();
  return result;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let task = parameters.firstTask + group.x + group.y * groups.x;
  if (task >= parameters.endTask) {
    return;
  }

  // This block of query rows, and this invocation’s row and lane.
  let taskAt = parameters.tasksAt + 7u * task;
  let sequence = sequenceAt(integers[taskAt + 0u]);
  let head = integers[taskAt + 1u];
  let keyHead = head * parameters.keyHeads / parameters.heads;
  let rowsAt = u32(integers[taskAt + 2u]);
  let rowCount = u32(integers[taskAt + 3u]);
  let runsAt = u32(integers[taskAt + 4u]);
  let runCount = u32(integers[taskAt + 5u]);
  let slot = local / 16u;
  let lane = local % 16u;
  let queryIndex = integers[rowsAt + min(slot, rowCount - 1u)];
  let queryPosition = positionAt(sequence.queryPositions, sequence.queryOffset, queryIndex);
  let outputRow = u32((sequence.tensorBatch * parameters.heads + head) * parameters.queryRows + sequence.queryStart + queryIndex);
  let queryAt = outputRow * 64u;
  let firstKeyRow = u32((sequence.tensorBatch * parameters.keyHeads + keyHead) * parameters.keyRows + sequence.keyStart);
  let scratchAt = ((task - parameters.firstTask) * 16u + slot) * parameters.scratchStride;
  var ordinal = 0u;
  for (var run = 0u; run < runCount; run++) {
    let end = integers[runsAt + 3u * run + 1u];
    let mixed = integers[runsAt + 3u * run + 2u] != 0;
    for (var first = integers[runsAt + 3u * run + 0u]; first < end; first += 16i) {
      let keyIndex = min(first + i32(lane), end - 1);
      let inside = first + i32(lane) < end;
      let keyPosition = positionAt(sequence.keyPositions, sequence.keyOffset, keyIndex);

      // 1  combine: a sum over channels
      let keyAt = (firstKeyRow + u32(keyIndex)) * 64u;
      var combined = 0.0f;
      for (var offset = 0u; offset < 64u; offset++) {
        combined = fma(query[queryAt + offset], key[keyAt + offset], combined);
      }

      // 2  scale and modify
      var score = parameters.uniform_scale * combined;

      // 3  mask
      var allowed = inside;
      let present = allowed && score > lowest;
      let term = score;
      scratch[scratchAt + ordinal * 16u + lane] = select(lowest, term, present);
      ordinal += 1u;
    }
  }
  let places = ordinal * 16u;

  // 4  normalize
  var largestOwn = lowest;
  for (var place = lane; place < places; place += 16u) {
    let term = scratch[scratchAt + place];
    if (term > lowest) {
      largestOwn = max(largestOwn, term);
    }
  }
  let largest = rowMaximum(local, largestOwn);
  var countOwn = 0.0f;
  for (var place = lane; place < places; place += 16u) {
    let term = scratch[scratchAt + place];
    if (term > lowest) {
      countOwn += 1.0f;
    }
  }
  let count = rowSum(local, countOwn);
  var low = -1.0f;
  var high = 0.0f;
  for (var halving = 0u; halving < 28u; halving++) {
    let middle = 0.5f * (low + high);
    var massOwn = 0.0f;
    for (var place = lane; place < places; place += 16u) {
      let term = scratch[scratchAt + place];
      if (term > lowest) {
        let above = max((term - largest) - middle, 0.0f);
        massOwn += above;
      }
    }
    let enough = rowSum(local, massOwn) >= 1.0f;
    low = select(low, middle, enough);
    high = select(middle, high, enough);
  }
  var supportOwn = 0.0f;
  for (var place = lane; place < places; place += 16u) {
    let term = scratch[scratchAt + place];
    if (term > lowest) {
      supportOwn += select(0.0f, 1.0f, (term - largest) > low);
    }
  }
  let support = rowSum(local, supportOwn);
  var supportSumOwn = 0.0f;
  for (var place = lane; place < places; place += 16u) {
    let term = scratch[scratchAt + place];
    if (term > lowest) {
      supportSumOwn += select(0.0f, (term - largest), (term - largest) > low);
    }
  }
  let supportSum = rowSum(local, supportSumOwn);
  let threshold = (supportSum - 1.0f) / support;

  // Weights take the place of the terms.
  for (var place = lane; place < places; place += 16u) {
    let term = scratch[scratchAt + place];
    if (term > lowest) {
      scratch[scratchAt + place] = max((term - largest) - threshold, 0.0f);
    }
  }

  // 6  aggregate: every lane reads the weights of the whole row
  storageBarrier();
  workgroupBarrier();
  if (slot >= rowCount) {
    return;
  }
  if (lane == 0u) {
  }
  for (var channel = i32(lane); channel < 64i; channel += 16i) {
    var aggregated = 0.0f;
     {
      var ordinal = 0u;
      for (var run = 0u; run < runCount; run++) {
        let end = integers[runsAt + 3u * run + 1u];
        let mixed = integers[runsAt + 3u * run + 2u] != 0;
        for (var first = integers[runsAt + 3u * run + 0u]; first < end; first += 16i) {
          for (var other = 0u; other < min(16u, u32(end - first)); other++) {
            let share = scratch[scratchAt + ordinal * 16u + other];
            if (share > lowest && share != 0.0f) {
              let element = value[(firstKeyRow + u32(first) + other) * 64u + u32(channel)];
              aggregated = fma(share, element, aggregated);
            }
          }
          ordinal += 1u;
        }
      }
    }
    output[outputRow * 64u + u32(channel)] = select(bitcast<u32>(aggregated), 0u, count == 0.0f);
  }
}
