// What scripts of the pages use and TypeScript's own libraries do not know.

/** hls.js, which is a script and no module: see crates/vod/src/page/vendor. */
interface Window {
  Hls: any;
  shaka: any;
}

/** Tracks of sound, which Safari has. */
interface AudioTrack {
  enabled: boolean;
  language: string;
  label: string;
}
interface HTMLMediaElement {
  readonly audioTracks?: EventTarget & ArrayLike<AudioTrack>;
}
interface HTMLVideoElement {
  /** Full screen on iPhones. */
  webkitEnterFullscreen?(): void;
}

/** The audio thread (AudioWorkletGlobalScope). */
declare class AudioWorkletProcessor {
  readonly port: MessagePort;
  constructor(options?: unknown);
}
declare function registerProcessor(name: string, processor: new (options: any) => AudioWorkletProcessor): void;
declare const sampleRate: number;
declare const currentTime: number;

/** lit-html, which is vendored without its types: see crates/player-page/src/page/vendor. */
declare module "*/lit-html.js" {
  /** Event of the element that a handler stands at, read as that of a field. */
  type FieldEvent = Event & { readonly target: HTMLInputElement };
  type Value = string | number | boolean | symbol | null | undefined | object | ((event: FieldEvent) => unknown);
  interface TemplateResult {
    readonly strings: TemplateStringsArray;
  }
  export const html: (strings: TemplateStringsArray, ...values: Value[]) => TemplateResult;
  export const render: (value: unknown, container: Element) => unknown;
  export const nothing: symbol;
  export const noChange: symbol;
  export const svg: (strings: TemplateStringsArray, ...values: Value[]) => TemplateResult;
}
declare module "*/directives/repeat.js" {
  export const repeat: <T>(items: Iterable<T>, key: (item: T, at: number) => unknown, template: (item: T, at: number) => unknown) => object;
}
declare module "*/directives/live.js" {
  export const live: (value: unknown) => object;
}
