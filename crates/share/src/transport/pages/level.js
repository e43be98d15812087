// How loud it is, so that one sees whether it is the volume.

/**
 * Shows in a <meter> how loud it is where `analyser` listens.
 * @param {HTMLMeterElement} meter
 * @param {AnalyserNode | null} analyser
 */
export function show(meter, analyser) {
  if (!analyser) return;
  const samples = new Float32Array(analyser.fftSize);
  analyser.getFloatTimeDomainData(samples);
  const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
  meter.value = Math.min(1, Math.sqrt(power) * 2);
}
