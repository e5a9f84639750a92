"""Query, key and value to averages: attention, its weights and statistics, and the merging of partial results."""

from softly.dot_product_attention.averages import attention as attention
from softly.dot_product_attention.averages import attention_weights as attention_weights
from softly.dot_product_attention.statistics import AttentionStatistics as AttentionStatistics
from softly.dot_product_attention.statistics import attention_statistics as attention_statistics
from softly.dot_product_attention.statistics import merge_attention as merge_attention
