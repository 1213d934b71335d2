import { useState, type DragEvent, type ReactElement } from 'react';
import { maxTokens, tokensOf } from '../model/tokens.ts';
import { firstTables } from '../model/number-tables.ts';
import type { Problem } from '../model/variant.ts';
import type { ExplorerState } from '../state/state.ts';
import { Problems } from './controls.tsx';

export interface TextInputProps {
  readonly state: ExplorerState;
  readonly problems: readonly Problem[];
  readonly dropped: string | null;
  readonly change: (changes: Partial<ExplorerState>) => void;
  readonly onFile: (file: File | null) => void;
}

/** A text, or three tables, or a file with recorded queries, keys and values. */
export function TextInput({ state, problems, dropped, change, onFile }: TextInputProps): ReactElement {
  const [over, setOver] = useState(false);
  const count = tokensOf(state.text).length;
  const drop = (event: DragEvent): void => {
    event.preventDefault();
    setOver(false);
    onFile(event.dataTransfer.files.item(0));
  };
  return (
    <section className={`source ${over ? 'is-over' : ''}`} aria-label="What attends to what" onDragOver={(event) => { event.preventDefault(); setOver(true); }} onDragLeave={() => setOver(false)} onDrop={drop}>
      {dropped !== null ? (
        <p>Queries, keys and values of <strong>{dropped}</strong>. <button type="button" onClick={() => onFile(null)}>Back to the text</button></p>
      ) : state.tables === null ? (
        <>
          <label className="text">
            <span>Text</span>
            <textarea rows={2} value={state.text} maxLength={20_000} onChange={(event) => change({ text: event.target.value })} />
          </label>
          <p className="hint">
            {count > maxTokens ? `The first ${maxTokens} of ${count} tokens are shown. ` : `${count} tokens. `}
            The heads are built by hand for this page, so that it is known what each looks for; no trained model is here. <button type="button" onClick={() => change({ tables: firstTables, head: 0 })}>Type numbers instead</button>{' '}
            or <label className="file">open a safetensors file<input type="file" accept=".safetensors" onChange={(event) => onFile(event.target.files?.item(0) ?? null)} /></label> with tensors query, key and value.
          </p>
        </>
      ) : (
        <>
          <div className="tables">
            {(['query', 'key', 'value'] as const).map((name) => (
              <label key={name} className="text">
                <span>{name}, a row a line</span>
                <textarea rows={4} spellCheck={false} value={state.tables?.[name] ?? ''} aria-invalid={problems.some(({ place }) => place === name)} onChange={(event) => change({ tables: { ...(state.tables ?? firstTables), [name]: event.target.value } })} />
                <Problems of={name} problems={problems} />
              </label>
            ))}
          </div>
          <p className="hint"><button type="button" onClick={() => change({ tables: null })}>Back to the text</button></p>
        </>
      )}
      <Problems of="text" problems={problems} />
    </section>
  );
}
