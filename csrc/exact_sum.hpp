// An exact sum of doubles: a fixed-point number of 67 chunks of 32 bits, chunk i in units of 2^(32 i - 1075)
// (R. Neal, "Fast exact summation using small and large superaccumulators", 2015). Integer additions are
// associative: a sum has the same bits in any order, over any split of the rows.

struct ExactSum {
    long long chunk[exact_sum_chunks];

    // Adds eight finite numbers, a lane each. A chunk takes 53 bits of each: normalise at least every 1000 additions.
    INLINE void add(const double* values) {
        long long low[8], high[8], first[8];
        for (int v = 0; v < 8; v += lanes<double>) {
            const DoubleBits bits = (DoubleBits)load(values + v);
            const DoubleBits biased = (bits >> 52) & 0x7ffull, normal = (DoubleBits)(biased != 0);
            const DoubleBits exponent = biased + (1 + normal);  // subnormals, whose field is 0, count as 1
            const DoubleBits mantissa = (bits & 0x000fffffffffffffull) | (normal & 0x0010000000000000ull);
            const DoubleBits shift = exponent & 31ull, sign = (DoubleBits)((SignedBits)bits >> 63);
            const DoubleBits moved_low = (mantissa << shift) & 0xffffffffull;
            const DoubleBits moved_high = (mantissa >> (31ull - shift)) >> 1;
            store_bits(low + v, (moved_low ^ sign) - sign);
            store_bits(high + v, (moved_high ^ sign) - sign);
            store_bits(first + v, exponent >> 5);
        }
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) {
            chunk[first[i]] += low[i];
            chunk[first[i] + 1] += high[i];
        }
    }

    // All chunks to [0, 2^32), the sign in the last one.
    void normalise() {
        for (int i = 0; i + 1 < exact_sum_chunks; ++i) {
            chunk[i + 1] += chunk[i] >> 32;
            chunk[i] &= 0xffffffffll;
        }
    }
};
