// Draws from one row of probabilities, of which top_k, top_p and min_p keep the largest scores. Nothing is sorted but
// the few entries about a threshold. Doubles in a fixed order: the same bits everywhere. Part of module.cpp.
#pragma once

namespace softly {
namespace {

struct Filter {
    long top_k;           // n or more: all
    double top_p, min_p;  // 1, 0: all
};

struct Entry {
    double score, weight;
};

struct DrawScratch {
    std::vector<Entry> entries;
    std::vector<double> before;  // of each block
};

// A sum that falls short of what it must reach by rounding alone has reached it.
constexpr double nearly = 1 - 1e-12;
constexpr int buckets = 2048;  // of scores, equally wide
constexpr long few = 64;       // entries that are sorted, or walked over

// The largest score t such that the entries with a score of t or more weigh `goal`; the lowest score if rounding leaves
// all of them below it. Each turn keeps the one bucket in which the goal is reached. `entries` (not none) are used up.
template <class Weight>
double threshold(std::vector<Entry>& entries, double goal, Weight weight) {
    const auto lower = [](const Entry& a, const Entry& b) { return a.score < b.score; };
    double above = 0;  // what the entries over those that are left weigh
    for (std::size_t size = entries.size() + 1; entries.size() < size && entries.size() > few;) {
        size = entries.size();
        const auto [low, high] = std::minmax_element(entries.begin(), entries.end(), lower);
        const double highest = high->score, lowest = low->score, scale = (buckets - 1) / (highest - lowest);
        if (!(scale > 0 && scale < std::numeric_limits<double>::infinity())) break;  // all alike, or too far apart
        const auto bucket = [&](const Entry& e) { return std::min((int)((highest - e.score) * scale), buckets - 1); };
        double totals[buckets] = {};
        for (const Entry& e : entries) totals[bucket(e)] += weight(e);
        int at = 0;
        while (at < buckets && above + totals[at] < goal) above += totals[at++];
        if (at == buckets) return lowest;
        const auto elsewhere = [&](const Entry& e) { return bucket(e) != at; };
        entries.erase(std::remove_if(entries.begin(), entries.end(), elsewhere), entries.end());
    }
    std::sort(entries.begin(), entries.end(), [&](const Entry& a, const Entry& b) { return lower(b, a); });
    for (const Entry& e : entries)
        if ((above += weight(e)) >= goal) return e.score;
    return entries.back().score;
}

// The lowest score that top_k and then top_p keep, in a row with a chance for at least one entry.
double lowest_kept(const double* z, const double* p, long n, const Filter& filter, DrawScratch& scratch) {
    auto& [entries, before] = scratch;
    double cut = -std::numeric_limits<double>::infinity();
    const auto collect = [&entries, z, p, n](double lowest, double least) {
        entries.clear();
        for (long i = 0; i < n; ++i)
            if (p[i] > least && z[i] >= lowest) entries.push_back({z[i], p[i]});
    };
    if (filter.top_k < n) {
        double bound = cut;
        if (filter.top_k <= n / few) {  // so many blocks have an entry of this score or more: few entries remain
            before.clear();
            for (long begin = 0; begin < n; begin += few)
                before.push_back(*std::max_element(z + begin, z + std::min(begin + few, n)));
            const auto at = before.begin() + (filter.top_k - 1);
            std::nth_element(before.begin(), at, before.end(), std::greater<double>());
            bound = *at;
        }
        collect(bound, 0);
        cut = threshold(entries, (double)filter.top_k, [](const Entry&) { return 1.0; });
    }
    if (filter.top_p < 1) {
        double mass = 0;
        for (long begin = 0; begin < n; begin += few) {  // blocks do not wait for each other
            double total = 0;
            for (long i = begin; i < std::min(begin + few, n); ++i) total += z[i] >= cut ? p[i] : 0;
            mass += total;
        }
        // Entries of (1 - top_p) mass / n each are together no more than may be left out; half is for rounding.
        collect(cut, (1 - filter.top_p) * mass / (2 * (double)n));
        cut = std::max(cut, threshold(entries, filter.top_p * mass * nearly, [](const Entry& e) { return e.weight; }));
    }
    return cut;
}

// `size` draws by the inverse of the distribution function, in the order of entries: for a u in [0, 1) the first entry
// at which the sum of what is kept exceeds u times the whole; -1 in a row without a chance. `leader` has the highest
// score. Returns how many entries are kept; *others is what they weigh without the leader.
long draw_row(const double* z, const double* p, long n, long leader, const Filter& filter, const double* u, long size,
              long long* index, double* others, DrawScratch& scratch) {
    *others = 0;
    std::fill(index, index + size, -1);
    if (!(p[leader] > 0)) return 0;
    const double cut = lowest_kept(z, p, n, filter, scratch), least = filter.min_p * p[leader] * nearly;
    const auto weight = [&](long i) { return (z[i] >= cut) & (p[i] >= least) ? p[i] : 0.0; };
    std::vector<double>& before = scratch.before;  // what is kept before each block
    before.clear();
    double sum = 0;
    long kept = 0;
    for (long begin = 0; begin < n; begin += few) {
        const long end = std::min(begin + few, n);
        double total = 0, rest = 0;
        for (long i = begin; i < end; ++i) {
            const double w = weight(i);
            kept += w > 0;
            total += w;
        }
        if (begin <= leader && leader < end)
            for (long i = begin; i < end; ++i) rest += i == leader ? 0 : weight(i);
        else
            rest = total;
        before.push_back(sum);
        sum += total;
        *others += rest;
    }
    for (long j = 0; j < size; ++j) {
        const double goal = u[j] * sum;
        const long at = std::upper_bound(before.begin(), before.end(), goal) - before.begin() - 1;
        double running = before[at];
        index[j] = leader;  // which rounding may leave: a block ends where the next begins but for that
        for (long i = at * few; i < std::min(at * few + few, n) && running <= goal; ++i) {
            const double w = weight(i);
            running += w;
            if (w > 0) index[j] = i;
        }
    }
    return kept;
}

}  // namespace
}  // namespace softly
