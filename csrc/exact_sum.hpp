// An exact sum of doubles: a fixed-point number of 67 chunks of 32 bits, chunk i in units of 2^(32 i - 1075)
// (R. Neal, "Fast exact summation using small and large superaccumulators", 2015). Integer additions are
// associative: a sum has the same bits in any order, over any split of the rows.

constexpr int additions_until_normalised = 960;  // a chunk takes 53 bits of each; 2^10 of them would overflow

struct ExactSum {
    long long chunk[exact_sum_chunks];

    // Adds `count` finite numbers, a multiple of eight; returns how many additions the chunks took.
    // Three levels of two-sums in each lane hold 159 bits: nearly always all of the sum, and then 24 numbers stand for
    // the block. Where a bit is lost from the third level, every number is added by itself.
    INLINE int add(const double* values, int count) {
        constexpr int vectors = 8 / lanes<double>;
        double levels[3][8];
        bool exact = true;
        for (int v = 0; v < vectors; ++v) {
            Doubles first = {}, second = {}, third = {}, lost = {};
            for (int i = v * lanes<double>; i < count; i += 8) {
                const Pair<double> a = two_sum(first, load(values + i)), b = two_sum(second, a.lo),
                                   c = two_sum(third, b.lo);
                first = a.hi, second = b.hi, third = c.hi;
                lost = (Doubles)((DoubleBits)lost | (DoubleBits)c.lo);
            }
            store(levels[0] + v * lanes<double>, first);
            store(levels[1] + v * lanes<double>, second);
            store(levels[2] + v * lanes<double>, third);
            for (int lane = 0; lane < lanes<double>; ++lane) exact &= lost[lane] == 0;
        }
        if (exact) {
            for (const auto& level : levels) add_eight(level);
            return 24;
        }
        for (int i = 0; i < count; i += 8) add_eight(values + i);
        return count;
    }

    // All chunks to [0, 2^32), the sign in the last one.
    void normalise() {
        for (int i = 0; i + 1 < exact_sum_chunks; ++i) {
            chunk[i + 1] += chunk[i] >> 32;
            chunk[i] &= 0xffffffffll;
        }
    }

  private:
    INLINE void add_eight(const double* values) {
        for (int i = 0; i < 8; ++i) {
            unsigned long long bits;
            __builtin_memcpy(&bits, values + i, sizeof bits);
            const int field = (int)(bits >> 52 & 0x7ff), exponent = field ? field : 1;  // 0 for subnormals
            const unsigned long long mantissa =
                (bits & 0x000fffffffffffffull) | (unsigned long long)(field != 0) << 52;
            const long long sign = (long long)bits >> 63;  // 0 or -1
            const int shift = exponent & 31, first = exponent >> 5;
            const long long low = (long long)(mantissa << shift & 0xffffffffull);
            const long long high = (long long)(mantissa >> (31 - shift) >> 1);
            chunk[first] += (low ^ sign) - sign;
            chunk[first + 1] += (high ^ sign) - sign;
        }
    }
};
