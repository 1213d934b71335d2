// Attention of blocks of 16 whole query rows, scored in tiles of 64 keys.
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
            let present = keyPlace < end && score > lowest;
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
    var low = -1.0f;
    var high = 0.0f;
    for (var halving = 0u; halving < 28u; halving++) {
      let middle = 0.5f * (low + high);
      var massOwn = 0.0f;
      for (var place = lane; place < places; place += lanes) {
        let term = scratch[rowAt + place];
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
    for (var place = lane; place < places; place += lanes) {
      let term = scratch[rowAt + place];
      if (term > lowest) {
        supportOwn += select(0.0f, 1.0f, (term - largest) > low);
      }
    }
    let support = rowSum(local, supportOwn);
    var supportSumOwn = 0.0f;
    for (var place = lane; place < places; place += lanes) {
      let term = scratch[rowAt + place];
      if (term > lowest) {
        supportSumOwn += select(0.0f, (term - largest), (term - largest) > low);
      }
    }
    let supportSum = rowSum(local, supportSumOwn);
    let threshold = (supportSum - 1.0f) / support;

    // Weights take the place of the terms.
    for (var place = lane; place < places; place += lanes) {
      let term = scratch[rowAt + place];
      if (term > lowest) {
        scratch[rowAt + place] = max((term - largest) - threshold, 0.0f);
      }
    }
    if (lane == 0u && slot < rowCount) {
      counts[slot] = count;
    }
  }

  // 6  aggregate
  var accumulator: array<vec4<f32>, 2>;  // [row][part]: quad part · lanes + lane of the row’s output
   {
    var ordinal = 0u;
    for (var run = 0u; run < runCount; run++) {
      let end = integers[runsAt + 3u * run + 1u];
      let mixed = integers[runsAt + 3u * run + 2u] != 0;
      for (var first = integers[runsAt + 3u * run + 0u]; first < end; first += i32(blockKey)) {
        for (var part = 0u; part < rows; part++) {
          let slot = part * teams + team;
          let queryIndex = integers[rowsAt + min(slot, rowCount - 1u)];
          let queryPosition = positionAt(sequence.queryPositions, sequence.queryOffset, queryIndex);
          let queryRow = firstQueryRow + u32(queryIndex);
          for (var turn = 0u; turn < 4u; turn++) {
            let weight = scratch[(scratchAt + slot) * parameters.scratchStride + ordinal * blockKey + turn * lanes + lane];
            tile[pairAt(slot, lane)][turn] = select(0.0f, weight, weight > lowest);
          }
        }
        workgroupBarrier();
        for (var quad = 0u; quad < lanes; quad++) {
          let key0 = firstKeyRow + u32(min(first + i32(quad), end - 1));
          let key1 = firstKeyRow + u32(min(first + i32(quad + lanes), end - 1));
          let key2 = firstKeyRow + u32(min(first + i32(quad + 2u * lanes), end - 1));
          let key3 = firstKeyRow + u32(min(first + i32(quad + 3u * lanes), end - 1));
          let weights0 = tile[pairAt(0u * teams + team, quad)];
          let weights1 = tile[pairAt(1u * teams + team, quad)];
          let values = mat4x4<f32>(valueQuad(key0, lane), valueQuad(key1, lane), valueQuad(key2, lane), valueQuad(key3, lane));
          accumulator[0] += values * weights0;
          accumulator[1] += values * weights1;
        }
        workgroupBarrier();
        ordinal += 1u;
      }
    }
  }

  // 7  finish
  workgroupBarrier();
  tile[pairAt(0u * teams + team, lane)] = accumulator[0];
  tile[pairAt(1u * teams + team, lane)] = accumulator[1];
  for (var part = 0u; part < rows; part++) {
    let slot = part * teams + team;
    let queryIndex = integers[rowsAt + min(slot, rowCount - 1u)];
    let queryPosition = positionAt(sequence.queryPositions, sequence.queryOffset, queryIndex);
    let queryRow = firstQueryRow + u32(queryIndex);
    if (slot < rowCount) {
      for (var turn = 0u; turn < 4u; turn++) {
        let channel = i32(4u * (lane) + turn);
        if (channel < 64i) {
          let aggregated = tile[pairAt(slot, lane)][turn];
          output[queryRow * 64u + u32(channel)] = select(bitcast<u32>(aggregated), 0u, counts[slot] == 0.0f);
        }
      }
    }
  }
}
