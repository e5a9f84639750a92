// What evaluation needs of each row of probabilities: the largest, where it stands first, the label's, the squared norm.

template <class T>
void outcomes_row(const T* p, long n, long long label, double* confidence, long long* predicted,
                  double* label_probability, double* squared_norm) {
    T best = p[0];
    long long where = 0;
    double squares = 0;
    for (long j = 0; j < n; ++j) {
        if (p[j] > best) {
            best = p[j];
            where = j;
        }
        squares += (double)p[j] * (double)p[j];
    }
    *confidence = best;
    *predicted = where;
    *label_probability = p[label];
    *squared_norm = squares;
}
