/** Whose turn it is: what concerns one container goes one after another, and a collection goes alone. */
export class Turns {
  readonly #last = new Map<string, Promise<unknown>>();
  #alone: Promise<unknown> = Promise.resolve();

  /** Work on a container, after what is under way for it. */
  run<T>(container: string, work: () => Promise<T>): Promise<T> {
    const turn = after([this.#last.get(container), this.#alone], work);
    this.#last.set(container, turn);
    const forget = () => {
      if (this.#last.get(container) === turn) this.#last.delete(container);
    };
    turn.then(forget, forget);
    return turn;
  }

  /** Work on all of them: after all that is under way, and before all that comes. */
  runAlone<T>(work: () => Promise<T>): Promise<T> {
    const turn = after([...this.#last.values(), this.#alone], work);
    this.#alone = turn.catch(() => undefined);
    return turn;
  }
}

async function after<T>(
  before: readonly (Promise<unknown> | undefined)[],
  work: () => Promise<T>,
): Promise<T> {
  await Promise.allSettled(before);
  return work();
}
