// An exact sum of doubles: a fixed-point number of 67 chunks of 32 bits, chunk i in units of 2^(32 i - 1075)
// (R. Neal, "Fast exact summation using small and large superaccumulators", 2015). Integer additions are
// associative: a sum has the same bits in any order, over any split of the rows.

constexpr int exact_chunks = 67;

struct ExactSum {
    long long chunk[exact_chunks];

    // A chunk takes 53 bits at most per addition: normalise at least every 1000 additions.
    INLINE void add(double value) {
        unsigned long long bits;
        __builtin_memcpy(&bits, &value, sizeof bits);
        const int biased = (int)(bits >> 52 & 0x7ff), exponent = biased ? biased : 1;
        const unsigned long long mantissa =
            (bits & 0x000fffffffffffffull) | ((unsigned long long)(biased != 0) << 52);
        const long long sign = (long long)bits >> 63;  // 0 or -1
        const int shift = exponent & 31, first = exponent >> 5;
        const long long low = (long long)((mantissa << shift) & 0xffffffffull);
        const long long high = (long long)((mantissa >> (31 - shift)) >> 1);
        chunk[first] += (low ^ sign) - sign;
        chunk[first + 1] += (high ^ sign) - sign;
    }

    // All chunks to [0, 2^32), the sign in the last one.
    void normalise() {
        for (int i = 0; i + 1 < exact_chunks; ++i) {
            chunk[i + 1] += chunk[i] >> 32;
            chunk[i] &= 0xffffffffll;
        }
    }
};
