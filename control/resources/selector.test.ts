import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Labels, parseSelector, SelectorError, selectorProblem } from './selector.ts';

const matches = (text: string, labels: Labels) => parseSelector(text).matches(labels);

describe('selectors', () => {
  it.each<[string, Labels[], Labels[]]>([
    [`a == "b"`, [{ a: 'b' }, { a: 'b', c: 'd' }], [{}, { a: 'c' }, { c: 'd' }]],
    [`a != 'a'`, [{}, { a: 'b' }], [{ a: 'a' }]],
    [`a in {"'", '"', "c"}`, [{ a: 'c' }, { a: '"' }, { a: "'" }], [{}, { a: 'e' }]],
    [`a in {}`, [], [{}, { a: 'e' }]],
    [`a in {"x",}`, [{ a: 'x' }], [{}]],
    [`a not in {"d", "e"}`, [{}, { a: 'a' }], [{ a: 'd' }]],
    [`a notin {"d"}`, [{}], [{ a: 'd' }]],
    [`a contains "a"`, [{ a: 'bab' }], [{}, { a: 'b' }, { b: 'aaa' }]],
    [`a starts with "a"`, [{ a: 'abb' }], [{}, { a: 'baa' }]],
    [`a startswith "a"`, [{ a: 'abb' }], [{}]],
    [`a ends  with "a"`, [{ a: 'bba' }], [{}, { a: 'aab' }]],
    ['has(a)', [{ a: '' }], [{}, { b: 'a' }]],
    ['has( role/x.y-z_0 )', [{ 'role/x.y-z_0': '' }], [{}]],
    ['!has(a)', [{}], [{ a: 'b' }]],
    ['!!! has(a)', [{}], [{ a: 'b' }]],
    ['', [{}, { a: 'b' }], []],
    [' \t', [{}], []],
    [' all( )', [{}, { a: 'b' }], []],
    ['global()', [{}, { a: 'b' }], []],
    ['! all()', [], [{}]],
    [`a == 'x' || b == 'y' && c == 'z'`, [{ a: 'x' }, { b: 'y', c: 'z' }], [{ b: 'y' }, { c: 'z' }]],
    [`(a == 'x' || b == 'y') && c == 'z'`, [{ a: 'x', c: 'z' }], [{ a: 'x' }, { b: 'y' }]],
    [`! a == 'x' && b == 'y'`, [{ b: 'y' }], [{ a: 'x', b: 'y' }]],
    ['!(has(b) || !has(a))', [{ a: '' }], [{ a: '', b: '' }, {}]],
    [`all == 'x'`, [{ all: 'x' }], [{}]],
    ['has(constructor)', [], [{}]],
    [`toString contains ""`, [], [{}]],
  ])('%s', (text, yes, no) => {
    for (const labels of yes) expect([labels, matches(text, labels)]).toEqual([labels, true]);
    for (const labels of no) expect([labels, matches(text, labels)]).toEqual([labels, false]);
  });

  it.each([
    ['', 'all()'],
    [' (all() )', 'all()'],
    ['! (has( b)||! has(a ))', '!(has(b) || !has(a))'],
    ['! (a == "b"&&! c != "d")', '!(a == "b" && !c != "d")'],
    [`a == "'"`, `a == "'"`],
    [`a == '"'`, `a == '"'`],
    [`a startswith '"'`, `a starts with '"'`],
    [`a in {"z", 'z', "x", "a"}`, 'a in {"a", "x", "z"}'],
  ])('in canonical form: %s', (text, canonical) => {
    expect(`${parseSelector(text)}`).toBe(canonical);
  });

  it.each([
    ['b == b', 6, 'expected a string in quotes'],
    ['b contains b', 12, 'expected a string in quotes'],
    ["'b1' == b", 1, 'expected a label, has(label), all(), global() or ('],
    ['b', 2, 'expected ==, !=, in, not in, contains, starts with or ends with, found the end'],
    ['a b', 3, 'expected ==, !=, in, not in, contains, starts with or ends with'],
    ['a = "b"', 3, 'expected =='],
    ['!', 2, 'expected a label'],
    ['foo == "bar" &', 14, 'expected && or ||'],
    ['foo == "bar" baz', 14, 'expected && or ||'],
    ['foo != ||', 8, 'expected a string in quotes'],
    ['foo in {"", ||', 13, 'expected a string in quotes'],
    ['foo in {"a" "b"}', 13, 'expected , or }'],
    ['foo in ""', 8, 'expected {'],
    ['a == "FOO', 6, 'a string that does not end'],
    [`a == 'FOO"`, 6, 'a string that does not end'],
    ['(', 2, 'expected a label'],
    ['(a == "foo"', 12, 'expected ), found the end'],
    ['()', 2, 'expected a label'],
    ['has(', 5, 'expected a label'],
    ['has(foo &&', 9, 'expected )'],
    ['all(x)', 5, 'expected )'],
    ['a == "b" && %', 13, 'expected a label'],
    [`${'('.repeat(300)}a`, 202, 'more than 200 parentheses in one another'],
  ])('refuses %s and says where', (text, character, problem) => {
    const found = selectorProblem(text);
    expect(found).toContain(problem);
    expect(found).toMatch(new RegExp(`, at character ${character}$`));
    expect(() => parseSelector(text)).toThrow(SelectorError);
  });
});

/** A selector as text, and what it means, made side by side. */
type Sample = { readonly text: string; readonly holds: (labels: Labels) => boolean };

const key = fc.constantFrom('a', 'b.c/d', 'in', 'not', 'has', 'E_f-0');
const value = fc.string({ maxLength: 3 }).filter((text) => !text.includes('"'));
const space = fc.constantFrom('', ' ', '  ', '\t');

const comparison = (
  word: string,
  holds: (given: string | undefined, wanted: string) => boolean,
): fc.Arbitrary<Sample> =>
  fc.tuple(key, value, space).map(([label, wanted, gap]) => ({
    text: `${label} ${word}${gap}"${wanted}"`,
    holds: (labels) => holds(labels[label], wanted),
  }));

const membership = fc.tuple(key, fc.array(value, { maxLength: 3 }), fc.boolean(), space).map(
  ([label, values, isIn, gap]): Sample => ({
    text: `${label} ${isIn ? 'in' : 'not in'}${gap}{${gap}${values.map((text) => `"${text}"`).join(`${gap},`)}${gap}}`,
    holds: (labels) => (labels[label] !== undefined && values.includes(labels[label])) === isIn,
  }),
);

const { any } = fc.letrec<{ any: Sample }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 4 },
    fc.constant<Sample>({ text: 'all()', holds: () => true }),
    key.map((label): Sample => ({ text: `has(${label})`, holds: (labels) => labels[label] !== undefined })),
    comparison('==', (given, wanted) => given === wanted),
    comparison('!=', (given, wanted) => given !== wanted),
    comparison('contains', (given, wanted) => given?.includes(wanted) ?? false),
    comparison('starts with', (given, wanted) => given?.startsWith(wanted) ?? false),
    comparison('ends with', (given, wanted) => given?.endsWith(wanted) ?? false),
    membership,
    tie('any').map(({ text, holds }) => ({ text: `!(${text})`, holds: (labels: Labels) => !holds(labels) })),
    fc.tuple(tie('any'), tie('any'), fc.boolean(), space).map(
      ([left, right, isAnd, gap]): Sample => ({
        text: `(${left.text})${gap}${isAnd ? '&&' : '||'}${gap}(${right.text})`,
        holds: (labels) =>
          isAnd ? left.holds(labels) && right.holds(labels) : left.holds(labels) || right.holds(labels),
      }),
    ),
  ),
}));

const someLabels = fc.dictionary(key, value, { maxKeys: 4 });

describe('any selector', () => {
  it('means what it says, and so does its canonical form', () => {
    fc.assert(
      fc.property(any, fc.array(someLabels, { minLength: 1, maxLength: 5 }), ({ text, holds }, all) => {
        const selector = parseSelector(text);
        const again = parseSelector(`${selector}`);
        expect(`${again}`).toBe(`${selector}`);
        for (const labels of all) {
          expect([text, labels, selector.matches(labels)]).toEqual([text, labels, holds(labels)]);
          expect(again.matches(labels)).toBe(holds(labels));
        }
      }),
      { numRuns: 500 },
    );
  });

  it('binds && closer than ||, as Calico does', () => {
    const chain = fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.boolean()), {
      minLength: 1,
      maxLength: 6,
    });
    fc.assert(
      fc.property(fc.array(chain, { minLength: 1, maxLength: 4 }), someLabels, (sums, labels) => {
        const text = sums
          .map((terms) => terms.map(([label, yes]) => `${yes ? '' : '!'}has(${label})`).join(' && '))
          .join(' || ');
        const holds = sums.some((terms) =>
          terms.every(([label, yes]) => (labels[label] !== undefined) === yes),
        );
        expect(matches(text, labels)).toBe(holds);
      }),
    );
  });

  it('damaged, is either another selector or refused with a place inside it', () => {
    const cut = fc.tuple(fc.nat(60), fc.nat(6), fc.string({ maxLength: 3 }));
    fc.assert(
      fc.property(any, cut, ({ text }, [at, length, insert]) => {
        const damaged = text.slice(0, at) + insert + text.slice(at + length);
        try {
          parseSelector(damaged);
        } catch (error) {
          expect(error).toBeInstanceOf(SelectorError);
          expect((error as SelectorError).offset).toBeLessThanOrEqual(damaged.length);
        }
      }),
      { numRuns: 500 },
    );
  });
});
