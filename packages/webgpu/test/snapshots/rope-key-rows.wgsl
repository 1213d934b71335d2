// Rows of key, f32, one workgroup each, as float32 after rope.

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
  uniform_rope_base: f32,
  uniform_rope_magnitude: f32,
  uniform_rope_base_2: f32,
  uniform_rope_magnitude_2: f32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> source: array<u32>;  // f32 [batch, heads, rows, 64]
@group(0) @binding(2) var<storage, read> integers: array<i32>;  // sequences, then [sequence, index] of each row, positions
@group(0) @binding(3) var<storage, read> tables: array<u32>;  // every table of the variant, one after another
@group(0) @binding(4) var<storage, read> turns: array<f32>;  // cosines and sines of each row, computed in float64
@group(0) @binding(5) var<storage, read_write> result: array<f32>;  // [batch, heads, rows, width]

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

var<workgroup> first: array<f32, 64>;
var<workgroup> second: array<f32, 64>;
var<workgroup> shares: array<f32, 64>;

fn laneSum(local: u32, own: f32) -> f32 {
  workgroupBarrier();
  shares[local] = own;
  workgroupBarrier();
  var result = 0.0f;
  for (var lane = 0u; lane < 64u; lane++) {
    result += shares[lane];
  }
  return result;
}

fn laneMaximum(local: u32, own: f32) -> f32 {
  workgroupBarrier();
  shares[local] = own;
  workgroupBarrier();
  var result = shares[0];
  for (var lane = 0u; lane < 64u; lane++) {
    result = max(result, shares[lane]);
  }
  return result;
}


@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let task = parameters.firstTask + workgroup.x + workgroup.y * workgroups.x;
  if (task >= parameters.endTask) {
    return;
  }

  // The row: its sequence, head, index and position.
  let ordinal = task / u32(parameters.heads);
  let head = i32(task % u32(parameters.heads));
  let sequence = sequenceAt(integers[parameters.tasksAt + 2u * ordinal]);
  let index = integers[parameters.tasksAt + 2u * ordinal + 1u];
  let position = positionAt(sequence.keyPositions, sequence.keyOffset, index);
  let rowAt = u32((sequence.tensorBatch * parameters.heads + head) * parameters.queryRows + sequence.keyStart + index);
  for (var channel = local; channel < 64u; channel += 64u) {
    let place = rowAt * 64u + channel;
    first[channel] = bitcast<f32>(source[place / 1u]);
  }
  workgroupBarrier();

  // rope: 64 → 64 channels
   {
    for (var channel = local; channel < 64u; channel += 64u) {
      second[channel] = first[channel];
      if (channel < 64u) {
        let partner = (channel + 32u) % 64u;
        let turn = 0u * parameters.rowCount + ordinal * 128u + channel;
        second[channel] = first[channel] * turns[turn] + first[partner] * turns[turn + 64u];
      }
    }
    workgroupBarrier();
  }

  // The row as it is read from now on.
  for (var place = local; place < 64u; place += 64u) {
    result[rowAt * 64u + place] = second[place];
  }
}
