// Attention of blocks of 16 query rows, one walk over the keys in tiles of 16.
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
@group(0) @binding(1) var<storage, read> query: array<f32>;  // [batch, heads, queryRows, scoreDim], transformed
@group(0) @binding(2) var<storage, read> key: array<f32>;  // [batch, keyHeads, keyRows, scoreDim], transformed
@group(0) @binding(3) var<storage, read> value: array<f32>;  // [batch, keyHeads, keyRows, valueDim], prepared
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

// −∞ of a table as the lowest number: arithmetic may assume that nothing is infinite.
fn finite(bits: u32) -> f32 {
  return bitcast<f32>(select(bits, 0xff7fffffu, bits == 0xff800000u));
}

// One number for each pair of the tile, [16][16].
var<workgroup> pairs: array<f32, 256>;

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
  let queryAt = outputRow * 32u;
  let firstKeyRow = u32((sequence.tensorBatch * parameters.keyHeads + keyHead) * parameters.keyRows + sequence.keyStart);

  // Running statistics of the row, and its channels lane, lane + 16, …
  var maximum = lowest;
  var total = 0.0f;
  var counted = 0u;
  var accumulator: array<f32, 4>;
  var ordinal = 0u;
  for (var run = 0u; run < runCount; run++) {
    let end = integers[runsAt + 3u * run + 1u];
    let mixed = integers[runsAt + 3u * run + 2u] != 0;
    for (var first = integers[runsAt + 3u * run + 0u]; first < end; first += 16i) {
      let keyIndex = min(first + i32(lane), end - 1);
      let inside = first + i32(lane) < end;
      let keyPosition = positionAt(sequence.keyPositions, sequence.keyOffset, keyIndex);

      // 1  combine: a sum over channels
      let keyAt = (firstKeyRow + u32(keyIndex)) * 32u;
      var combined = 0.0f;
      for (var offset = 0u; offset < 32u; offset++) {
        let channel = i32(offset);
        let queryElement = query[queryAt + offset];
        let keyElement = key[keyAt + offset];
        combined += table_vector(channel) * hyperbolicTangent(queryElement + keyElement);
      }

      // 2  scale and modify
      var score = parameters.uniform_scale * combined;

      // 3  mask
      var allowed = inside;
      let present = allowed && score > lowest;
      let term = score;

      // 4  normalize
      pairs[local] = select(lowest, term, present);
      workgroupBarrier();
      var tileMaximum = maximum;
      for (var other = 0u; other < 16u; other++) {
        tileMaximum = max(tileMaximum, pairs[slot * 16u + other]);
        counted += select(0u, 1u, pairs[slot * 16u + other] > lowest);
      }
      let correction = exponential(maximum - tileMaximum);
      maximum = tileMaximum;
      let weight = select(0.0f, exponential(term - maximum), present);
      workgroupBarrier();
      pairs[local] = weight;
      workgroupBarrier();
      var tileTotal = 0.0f;
      for (var other = 0u; other < 16u; other++) {
        tileTotal += pairs[slot * 16u + other];
      }
      total = fma(total, correction, tileTotal);

      // 6  aggregate: a weight of 0 brings nothing, whatever stands in the value (L10)
      for (var part = 0u; part < 4u; part++) {
        accumulator[part] *= correction;
      }
      for (var other = 0u; other < 16u; other++) {
        let share = pairs[slot * 16u + other];
        if (share != 0.0f) {
          let valueAt = (firstKeyRow + u32(min(first + i32(other), end - 1))) * 64u + lane;
          for (var part = 0u; part < 4u; part++) {
            accumulator[part] = fma(share, value[valueAt + part * 16u], accumulator[part]);
          }
        }
      }
      workgroupBarrier();
      ordinal += 1u;
    }
  }

  // 7  finish
  if (slot >= rowCount) {
    return;
  }
  let peak = maximum;
  let whole = total;
  let scale = 1.0f / total;
  if (lane == 0u) {
    statistics[outputRow] = select(bitcast<u32>(peak + naturalLogarithm(whole)), 0xff800000u, counted == 0u);
  }
  for (var part = 0u; part < 4u; part++) {
    let channel = i32(part * 16u + lane);
    if (channel >= 64i) {
      break;
    }
    let aggregated = accumulator[part] * scale;
    output[outputRow * 64u + u32(channel)] = select(bitcast<u32>(aggregated), 0u, counted == 0u);
  }
}
