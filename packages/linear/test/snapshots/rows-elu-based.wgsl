// Rows of key, f32, one workgroup each, as float32 after eluFeatures, based.

struct Parameters {
  firstTask: u32,
  endTask: u32,
  heads: u32,
  rows: u32,  // of the tensor, for each entry of its batch
  rowCount: u32,  // rows of all sequences
  uniform_scale: f32,
  uniform_rowSum_epsilon: f32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> source: array<u32>;  // f32 [batch, heads, rows, 16]
@group(0) @binding(2) var<storage, read> integers: array<i32>;  // tensorBatch, row, batch, index, position of each row
@group(0) @binding(3) var<storage, read> tables: array<u32>;  // every table of the variant, one after another
@group(0) @binding(4) var<storage, read> turns: array<f32>;  // cosines and sines of each row, computed in float64
@group(0) @binding(5) var<storage, read_write> result: array<f32>;  // [batch, heads, rows, width]

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

var<workgroup> first: array<f32, 153>;
var<workgroup> second: array<f32, 153>;
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
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let task = parameters.firstTask + group.x + group.y * groups.x;
  if (task >= parameters.endTask) {
    return;
  }
  let ordinal = task / parameters.heads;
  let head = i32(task % parameters.heads);
  let record = ordinal * 5u;
  let batch = integers[record + 2u];
  let index = integers[record + 3u];
  let position = integers[record + 4u];
  let rowAt = (u32(integers[record]) * parameters.heads + u32(head)) * parameters.rows + u32(integers[record + 1u]);
  for (var channel = local; channel < 16u; channel += 64u) {
    let place = rowAt * 16u + channel;
    first[channel] = bitcast<f32>(source[place / 1u]);
  }
  workgroupBarrier();

  // eluFeatures: 16 → 16 channels
   {
    for (var channel = local; channel < 16u; channel += 64u) {
      let element = first[channel];
      second[channel] = select(exponential(element), element + 1.0f, element > 0.0f);
    }
    workgroupBarrier();
  }

  // based: 16 → 153 channels
   {
    for (var channel = local; channel < 153u; channel += 64u) {
      var feature = 1.0f;
      if (channel > 32u) {
        // Products of i < j, row by row.
        var rest = channel - 33u;
        var i = 0u;
        while (rest >= 15u - i) {
          rest -= 15u - i;
          i += 1u;
        }
        feature = second[i] * second[i + 1u + rest] * 0.25f;
      }
      else if (channel > 16u) {
        feature = second[channel - 17u] * second[channel - 17u] * 0.1767766952966369f;
      }
      else if (channel > 0u) {
        feature = second[channel - 1u] * 0.5f;
      }
      first[channel] = feature;
    }
    workgroupBarrier();
  }
  for (var channel = local; channel < 153u; channel += 64u) {
    result[rowAt * 153u + channel] = first[channel];
  }
}
